"""Gathers what drugs are indicated for, from four open collections, with the ICD-10-CM codes of the diseases."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mkmed.demo.build.drugs import Drug
from mkmed.demo.build.graph import drugbank_of
from mkmed.demo.build.tables import flat, read_tsv

CODES = Path(__file__).parents[3] / "recsys" / "knowledge" / "data" / "codes.tsv.gz"
CROSSWALK = Path(__file__).parent / "disease_icd10.tsv"
"""Diseases whose names are not the titles of their ICD-10-CM categories: name, tab, codes joined by ``|``."""
_LEFT_OUT = {"unspecified", "the", "of", "a", "an", "and", "nos", "in", "with", "due", "to"}


@dataclass(frozen=True)
class CollectedIndication:
    """What one collection says of the drug ``key`` and a disease; ``icd10`` holds codes joined by ``|``."""

    key: str
    kind: str
    disease: str
    ids: str
    icd10: str
    icd10_by: str
    evidence: str
    reference: str
    provider: str
    licence: str


def gather_indications(sources: Path, drugs: Mapping[str, Drug]) -> list[CollectedIndication]:
    """All statements about drugs of the corpus, sorted, each with its disease's codes."""
    titles, written = _titles(), _written()
    found = set()
    for key, kind, disease, ids, *rest in (*_labels(sources, drugs), *_mechanisms(sources), *_hetionet(sources),
                                           *_drugcentral(sources)):
        if key in drugs and disease:
            codes, by = _codes(disease, titles, written)
            found.add(CollectedIndication(key, kind, flat(disease), ids, "|".join(codes), by, *rest))
    return sorted(found, key=lambda i: (i.key, i.provider, i.disease, i.kind, i.reference))


Said = tuple[str, str, str, str, str, str, str, str]
"""Key, kind, disease, ids, evidence, reference, provider, licence."""


def _labels(sources: Path, drugs: Mapping[str, Drug]) -> Iterator[Said]:
    """LabeledIn: indications that people marked in FDA labels, by RxNorm ingredient."""
    owners: dict[str, list[str]] = defaultdict(list)
    for drug in drugs.values():
        for identifier in drug.identifiers:
            if identifier.startswith("rxcui:"):
                owners[identifier.removeprefix("rxcui:")].append(drug.key)
    for row in read_tsv(sources / "labeledin/indications.tsv"):
        keys = owners.get(row["rxnorm_id"], [])
        named = [key for key in keys if drugs[key].name.lower() == row["rxnorm_name"].lower()]
        if len(named or keys) == 1:
            by = " and ".join(who for who in ("expert", "crowd") if row[who] == "1")
            evidence = f"FDA labels: {row['n_labels']}" + (f", marked by: {by}" if by else "")
            yield ((named or keys)[0], "indication", row["disease_mesh_name"], f"umls:{row['disease_cui']}", evidence,
                   "https://www.ncbi.nlm.nih.gov/CBBresearch/Lu/Demo/LabeledIn/", "FDA label (LabeledIn)",
                   "LicenseRef-US-Government")


def _mechanisms(sources: Path) -> Iterator[Said]:
    """DrugMechDB: indications that a curated path explains; several paths of a pair are one statement."""
    paths: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in read_tsv(sources / "drugmechdb/drugmechdb_paths.tsv.gz"):
        drugbank = drugbank_of(row["drugbank"])
        if drugbank:
            paths[f"drugbank:{drugbank}", row["disease"], row["disease_mesh"]].append(row["path_id"])
    for (key, disease, mesh), ids in paths.items():
        yield (key, "indication", disease, mesh.replace("MESH:", "mesh:"), f"curated mechanism paths: {len(ids)}",
               f"DrugMechDB {min(ids)}", "DrugMechDB", "CC0-1.0")


def _hetionet(sources: Path) -> Iterator[Said]:
    """Hetionet's edges "treats" (disease-modifying) and "palliates", which physicians curated."""
    names = {row["id"]: row["name"] for row in read_tsv(sources / "hetionet/nodes.tsv")}
    kinds = {"CtD": ("indication", "disease-modifying"), "CpD": ("symptomatic", "palliates")}
    for row in read_tsv(sources / "hetionet/edges-5k.sif.gz"):
        if row["metaedge"] in kinds:
            kind, evidence = kinds[row["metaedge"]]
            drugbank, doid = row["source"].removeprefix("Compound::"), row["target"].removeprefix("Disease::")
            yield (f"drugbank:{drugbank}", kind, names[row["target"]], doid.replace("DOID:", "doid:"),
                   f"{evidence}, curated by physicians", "doi:10.15363/thinklab.d182",
                   "PharmacotherapyDB (Hetionet v1.0)", "CC0-1.0")


def _drugcentral(sources: Path) -> Iterator[Said]:
    """DrugCentral's indications as mapped for Hetionet; those that its curators rejected are left out."""
    kinds = {"DM": ("indication", "disease-modifying"), "SYM": ("symptomatic", "symptomatic"), "": ("indication", "")}
    for row in read_tsv(sources / "drugcentral_pharmgkb/rephetio_indications.tsv"):
        if row["category"] in kinds:
            kind, evidence = kinds[row["category"]]
            yield (f"drugbank:{row['drugbank_id']}", kind, row["disease"], row["doid_id"].replace("DOID:", "doid:"),
                   evidence, "https://drugcentral.org", "DrugCentral", "CC-BY-4.0")


def words_of(name: str) -> frozenset[str]:
    """The words of a disease's name or a code's title, in no order: MeSH inverts names, ICD adds "unspecified"."""
    words = re.findall(r"[a-z0-9]+", name.lower().replace("'s", "").replace("\u2019s", ""))
    return frozenset(word.removesuffix("s") if len(word) > 3 else word for word in words if word not in _LEFT_OUT)


def _titles() -> dict[frozenset[str], list[str]]:
    """Words of a title → its shortest ICD-10-CM codes."""
    found: dict[frozenset[str], list[str]] = {}
    with gzip.open(CODES, "rt", encoding="utf-8") as lines:
        for line in lines:
            code, title = line.rstrip("\n").split("\t")[:2]
            if code.startswith("ICD10CM:") and "-" not in code:
                known = found.setdefault(words_of(title), [])
                known.append(code.removeprefix("ICD10CM:"))
    return {words: [c for c in codes if len(c) == min(map(len, codes))] for words, codes in found.items() if words}


def _written() -> dict[frozenset[str], list[str]]:
    lines = (line.split("\t") for line in CROSSWALK.read_text(encoding="utf-8").splitlines())
    return {words_of(name): codes.split("|") for name, codes in lines}


def _codes(
    disease: str, titles: Mapping[frozenset[str], list[str]], written: Mapping[frozenset[str], list[str]]
) -> tuple[list[str], str]:
    """The codes of a disease, and whether a table or an equal title gave them."""
    words = words_of(disease)
    if words in written:
        return written[words], "table"
    return (titles[words], "title") if words in titles else ([], "")
