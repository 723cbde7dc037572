"""Says of every bundled file what it is, whose it is and under which licence, and takes its checksum."""

from __future__ import annotations

import json
from pathlib import Path

from mkmed.demo.build.tables import sha256_hex

DRUG_TABLES = "DrugBank vocabulary (CC0), DrugCentral, PharmGKB, RxNorm (NLM), LabeledIn (NLM), wwPDB CCD, FDA UNII"
FILES: dict[str, dict[str, str]] = {
    "drugs.tsv.gz": {
        "licence": "CC-BY-SA-4.0",
        "attribution": f"Compiled from {DRUG_TABLES}",
        "url": "https://go.drugbank.com/releases/latest#open-data",
        "version": "DrugBank vocabulary; DrugCentral 2021-09-01; PharmGKB 2025-10-31",
    },
    "texts.tsv.gz": {
        "licence": "CC-BY-SA-4.0",
        "attribution": "DrugCentral, ChEBI, FDA labels through NCBI LabeledIn, WordNet 3.0; each row has its licence",
        "url": "https://github.com/biopragmatics/obo-db-ingest",
        "version": "DrugCentral export 54; ChEBI-20; LabeledIn 2014-09-04",
    },
    "properties_pubchem.tsv.gz": {
        "licence": "LicenseRef-NCBI",
        "attribution": "Properties computed by PubChem, recorded from its SDF files (text2mol); NCBI, NLM, NIH",
        "url": "https://github.com/cnedwards/text2mol",
        "version": "text2mol 749f997",
    },
    "conformers_ccd.sdf.gz": {
        "licence": "CC0-1.0",
        "attribution": "wwPDB Chemical Component Dictionary, ideal coordinates, as packed in biotite 1.6.0",
        "url": "https://www.wwpdb.org/data/ccd",
        "version": "biotite 1.6.0",
    },
    "conformers_rdkit.sdf.gz": {
        "licence": "CC0-1.0",
        "attribution": "Computed with RDKit: ETKDGv3 seed 42, MMFF94; not PubChem's conformers",
        "url": "https://www.rdkit.org",
        "version": "seed 42",
    },
    "atc.tsv.gz": {
        "licence": "CC-BY-SA-4.0",
        "attribution": "ATC codes of drugs by way of PharmGKB; ATC is maintained by the WHO Collaborating Centre",
        "url": "https://www.pharmgkb.org",
        "version": "2025-10-31",
    },
    "atc_classes.tsv.gz": {
        "licence": "CC-BY-SA-4.0",
        "attribution": "Names of ATC classes: levels 1 to 3 in WHO's terms, level 4 as PharmGKB lists them;"
        " ATC is maintained by the WHO Collaborating Centre",
        "url": "https://www.pharmgkb.org",
        "version": "2025-10-31",
    },
    "names.tsv.gz": {
        "licence": "CC-BY-SA-3.0",
        "attribution": "drug-named-entity-recognition 2.0.9 (Thomas Wood, Fast Data Science), from the DrugBank"
        " vocabulary, MeSH, MedlinePlus, the NHS and Wikipedia",
        "url": "https://pypi.org/project/drug-named-entity-recognition/",
        "version": "2.0.9",
    },
    "indications.tsv.gz": {
        "licence": "CC-BY-4.0",
        "attribution": "LabeledIn (NLM), DrugMechDB, PharmacotherapyDB by way of Hetionet v1.0, DrugCentral;"
        " each row has its licence",
        "url": "https://github.com/dhimmel/indications",
        "version": "LabeledIn 2014-09-04; DrugMechDB b83cc5d; Hetionet v1.0; DrugCentral as of 0e085dd",
    },
    "interactions.tsv.gz": {
        "licence": "LicenseRef-US-Government",
        "attribution": "NDF-RT (US Department of Veterans Affairs) and ONC lists (US government funded), collected by"
        " Ayvaz et al. 2015, doi:10.1016/j.jbi.2015.04.006",
        "url": "https://github.com/dbmi-pitt/public-PDDI-analysis",
        "version": "8199ee6",
    },
    "kg_triples.tsv.gz": {
        "licence": "CC-BY-SA-4.0",
        "attribution": "Hetionet v1.0 and DGIdb in DRKG's vocabulary, DrugCentral targets, DrugMechDB;"
        " the licence of each relation is in kg_relations.tsv.gz",
        "url": "https://github.com/gnn4dr/DRKG",
        "version": "DRKG subset without its non-commercial origins; DrugMechDB b83cc5d",
    },
    "kg_labels.tsv.gz": {
        "licence": "CC-BY-4.0",
        "attribution": "Hetionet v1.0, DrugMechDB",
        "url": "https://github.com/hetio/hetionet",
        "version": "1.0",
    },
    "kg_relations.tsv.gz": {
        "licence": "CC-BY-4.0",
        "attribution": "Hetionet v1.0, DGIdb, DrugCentral, DrugMechDB",
        "url": "https://github.com/gnn4dr/DRKG",
        "version": "1",
    },
}
RETRIEVED = "2026-11-23T00:00:00+00:00"
"""When the sources were collected."""


def write_manifest(folder: Path, rows: dict[str, int]) -> None:
    """Write MANIFEST.json: licence, attribution, origin, rows and sha256 of every file."""
    files = {
        name: {**about, "retrieved_at": RETRIEVED, "rows": rows[name], "sha256": sha256_hex(folder / name)}
        for name, about in FILES.items()
    }
    (folder / "MANIFEST.json").write_text(json.dumps(files, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_checksums(folder: Path) -> None:
    """Write SHA256SUMS over everything in the folder, as ``sha256sum -c`` reads it."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    lines = [f"{sha256_hex(folder / name)}  {name}" for name in names if name not in ("SHA256SUMS",)]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")
