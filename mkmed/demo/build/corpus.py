"""Builds the bundled corpus from the source folders: ``python -m mkmed.demo.build.corpus SOURCES [OUT]``.

SOURCES holds the folders demo_corpus, drugcentral_pharmgkb, drugmechdb, hetionet, ddi, brand_names, mappings,
labeledin, ccd3d, chebi20_pubchem and chemicals_pubchem as ``mkmed/demo/data/README.md`` describes them. Writes the
tables, MANIFEST.json and SHA256SUMS; the same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from kb.output import write
from mkmed.demo.build import graph, indications
from mkmed.demo.build.drugs import COLUMNS, TIERS, Drug, add_corpus, add_ndc, add_pharmgkb, add_rxnorm, from_vocabulary
from mkmed.demo.build.manifest import write_checksums, write_manifest
from mkmed.demo.build.names import name_rows
from mkmed.demo.build.obo import Term, read_terms
from mkmed.demo.build.properties import NAMES, pubchem_rows
from mkmed.demo.build.sources import check_sources
from mkmed.demo.build.structures import (
    ccd_ids,
    component_smiles,
    formula_of,
    heavy_atoms,
    open_smiles,
    write_ccd,
    write_rdkit,
)
from mkmed.demo.build.tables import read_tsv, write_tsv
from mkmed.demo.build.texts import Text, chebi_texts, corpus_texts, further_texts
from mkmed.demo.build.vocabulary import DrugVocabulary, read_vocabulary

CLASS_NAMES = Path(__file__).parent / "atc_names.tsv"
"""WHO's names of the ATC's upper levels, and of classes that PharmGKB does not list: code, tab, name."""
LARGEST = 60
"""Heavy atoms of a molecule whose conformer is computed here; of larger ones one takes many seconds."""
LEVEL_4 = 5
"""Characters of a code of ATC level 4."""


def build_corpus(sources: Path, out: Path) -> dict[str, dict[str, int]]:
    """The counts of what was joined, by tier, and of the rows of every file written to ``out``."""
    check_sources(sources)
    out.mkdir(parents=True, exist_ok=True)
    folder = sources / "drugcentral_pharmgkb"
    vocabulary = read_vocabulary(folder)
    pharmgkb = read_terms(folder / "pharmgkb.drug_pharmgkb.drug.obo", "pharmgkb.drug")
    drugcentral = read_terms(folder / "drugcentral_2021_09_01_drugcentral.obo", "drugcentral")
    drugs = from_vocabulary(vocabulary)
    add_corpus(drugs, sources)
    codes = add_pharmgkb(drugs, vocabulary, pharmgkb)
    texts = gather_texts(sources, vocabulary, drugs, {t.name.lower(): f"drugcentral:{t.id}" for t in drugcentral})
    triples, labels = gather_triples(sources)
    interactions = list(read_tsv(sources / "ddi/interactions_ndfrt_onc.tsv.gz"))
    counts = {"rxcui": {"by_unii": add_rxnorm(drugs, sources)}}
    said = indications.gather_indications(sources, drugs)
    mark_further(drugs, texts, triples, interactions)
    for key in {key for key, own in codes.items() if own} | {indication.key for indication in said}:
        if drugs[key].tier == "vocabulary":
            drugs[key].tier = "further"
    smiles = open_smiles(sources, drugcentral, pharmgkb)
    lacking = {d.inchikey for d in drugs.values() if not d.smiles} | {*stated_keys(drugcentral).values()}
    add_structures(drugs, drugcentral, component_smiles(sources, lacking - smiles.keys()) | smiles)
    add_codes(drugs, codes, ccd_ids(sources))
    joined, of = add_ndc(drugs, sources)
    counts["ndc"] = {"joined": joined, "of": of}
    ordered = sorted(drugs.values(), key=lambda d: (TIERS.index(d.tier), d.key))
    counts["tiers"] = {tier: sum(d.tier == tier for d in ordered) for tier in TIERS}
    written = write_drugs(sources, out, ordered, texts)
    written |= write_atc(out, ordered, codes, pharmgkb)
    written["names.tsv.gz"] = write_tsv(out / "names.tsv.gz", ("key", "name", "licence"), name_rows(sources, drugs))
    columns = tuple(indications.CollectedIndication.__annotations__)
    written["indications.tsv.gz"] = write_tsv(out / "indications.tsv.gz", columns, map(asdict, said))
    written["interactions.tsv.gz"] = write_tsv(out / "interactions.tsv.gz", tuple(interactions[0]), interactions)
    counts["rows"] = written | write_graph(out, triples, labels)
    return counts


def add_structures(drugs: dict[str, Drug], drugcentral: list[Term], smiles: dict[str, tuple[str, str]]) -> None:
    """Give every drug the open SMILES of exactly its InChIKey; one that had only its vocabulary entry changes tier."""
    stated_by = stated_keys(drugcentral)
    for drug in drugs.values():
        stated = drug.inchikey or stated_by.get(drug.key, "")
        if not drug.smiles and stated in smiles:
            drug.smiles, drug.smiles_from = smiles[stated]
            drug.inchikey, drug.kind = stated, "small molecule"
            if drug.tier == "vocabulary":
                drug.tier = "structure"
        if drug.smiles:
            drug.formula = formula_of(drug.smiles)


def stated_keys(drugcentral: list[Term]) -> dict[str, str]:
    """The InChIKey that DrugCentral states, by drug key."""
    return {f"drugcentral:{t.id}": (t.xref("inchikey") or [""])[0] for t in drugcentral}


def add_codes(drugs: dict[str, Drug], codes: dict[str, set[str]], components: dict[str, str]) -> None:
    """Add the CCD component of the same InChIKey, and all ATC codes, to the identifiers."""
    for drug in drugs.values():
        if drug.inchikey in components:
            drug.identifiers.add(f"ccd:{components[drug.inchikey]}")
        codes[drug.key] |= {i[4:] for i in drug.identifiers if i.startswith("atc:")}
        drug.identifiers |= {f"atc:{code}" for code in codes[drug.key]}


def write_drugs(sources: Path, out: Path, ordered: list[Drug], texts: list[Text]) -> dict[str, int]:
    """The rows of the drug table, the texts, PubChem's properties and the two files of conformers."""
    rows = pubchem_rows(sources, ordered)
    owners = {d.inchikey: d.key for d in reversed(ordered) if d.smiles}
    core = {d.key for d in ordered if d.tier == "core"}
    components, described = ccd_ids(sources), {t.key for t in texts}
    bare = [d for d in ordered if d.smiles and d.key not in core | described and d.inchikey not in components]
    lacking = {d.key: d.smiles for d in bare if heavy_atoms(d.smiles) <= LARGEST}
    return {
        "drugs.tsv.gz": write_tsv(out / "drugs.tsv.gz", COLUMNS, (d.row() for d in ordered)),
        "texts.tsv.gz": write_tsv(out / "texts.tsv.gz", tuple(Text.__annotations__), map(asdict, texts)),
        "properties_pubchem.tsv.gz": write_tsv(out / "properties_pubchem.tsv.gz", ("key", "cid", *NAMES), rows),
        "conformers_ccd.sdf.gz": write_ccd(sources, out / "conformers_ccd.sdf.gz", owners),
        "conformers_rdkit.sdf.gz": write_rdkit(sources, out / "conformers_rdkit.sdf.gz", core, lacking),
    }


def write_atc(out: Path, ordered: list[Drug], codes: dict[str, set[str]], pharmgkb: list[Term]) -> dict[str, int]:
    """The rows of the drugs' ATC codes and of the names of ATC classes."""
    named = class_names(pharmgkb)
    classes = [{"code": code, "name": named[code]} for code in sorted(named)]
    rows = [{"key": d.key, "code": code} for d in ordered for code in sorted(codes[d.key])]
    return {
        "atc.tsv.gz": write_tsv(out / "atc.tsv.gz", ("key", "code"), rows),
        "atc_classes.tsv.gz": write_tsv(out / "atc_classes.tsv.gz", ("code", "name"), classes),
    }


def class_names(pharmgkb: list[Term]) -> dict[str, str]:
    """The name of each ATC class, by code.

    WHO's terms of levels 1 to 3 (``atc_names.tsv``), and at level 4 PharmGKB's. PharmGKB also files drugs under the
    code of their class, and abridges: where a class's code has several terms, a drug's is never its name.
    """
    known = dict(line.split("\t") for line in CLASS_NAMES.read_text(encoding="utf-8").splitlines())
    terms: dict[str, list[Term]] = {}
    for term in pharmgkb:
        for code in term.xref("atc"):
            if len(code) == LEVEL_4:
                terms.setdefault(code, []).append(term)
    found = {code: min(several, key=lambda t: (is_substance(t), t.name)).name for code, several in terms.items()}
    return {code: name[:1].upper() + name[1:] for code, name in (found | known).items()}


def is_substance(term: Term) -> bool:
    """Whether a term of PharmGKB is a drug and no class of drugs."""
    spaces = ("drugbank", "pubchem.compound", "rxnorm", "chebi", "cas")
    return bool(term.smiles) or any(term.xref(space) for space in spaces)


def gather_texts(
    sources: Path, vocabulary: DrugVocabulary, drugs: dict[str, Drug], drugcentral: dict[str, str]
) -> list[Text]:
    """All texts, drug by drug; drugs that only the text table knows are added to ``drugs``."""
    texts = corpus_texts(sources)
    more, names = further_texts(sources, vocabulary, drugcentral, {t.key for t in texts})
    for key, name in names.items():
        identifiers = {key} if key.startswith("drugcentral:") else set()
        drugs[key] = Drug(key, name, "unknown", identifiers=identifiers)
    more += chebi_texts(sources, drugs, {t.key for t in texts + more})
    return sorted(texts + more, key=lambda t: (t.key, t.provider, t.heading, t.content))


def gather_triples(sources: Path) -> tuple[list[graph.Triple], dict[str, str]]:
    """All distinct triples, sorted, and the labels of their entities."""
    mechanisms, names = graph.mechanism_triples(sources)
    triples = sorted({*graph.drkg_triples(sources), *graph.target_triples(sources), *mechanisms})
    return triples, {**names, **graph.entity_names(sources)}


def mark_further(
    drugs: dict[str, Drug], texts: list[Text], triples: list[graph.Triple], interactions: list[dict[str, str]]
) -> None:
    """Put the drugs of which more than the vocabulary entry is known into the tier ``further``."""
    known = {t.key for t in texts}
    for head, _, tail in triples:
        known |= {f"drugbank:{e[10:]}" for e in (head, tail) if e.startswith("Compound::DB")}
    known |= {f"drugbank:{row[side]}" for row in interactions for side in ("drugbank_a", "drugbank_b")}
    for key in known & drugs.keys():
        if drugs[key].tier == "vocabulary":
            drugs[key].tier = "further"


def write_graph(out: Path, triples: list[graph.Triple], labels: dict[str, str]) -> dict[str, int]:
    """The rows of the graph's three files: triples in DRKG's form, entities with labels, relations with licences."""
    entities = sorted({e for head, _, tail in triples for e in (head, tail)})
    named = [{"entity": e, "label": labels[e]} for e in entities if labels.get(e)]
    described = graph.relation_rows(triples)
    rows = ({"head": h, "relation": r, "tail": t} for h, r, t in triples)
    return {
        "kg_triples.tsv.gz": write_tsv(out / "kg_triples.tsv.gz", ("head", "relation", "tail"), rows),
        "kg_labels.tsv.gz": write_tsv(out / "kg_labels.tsv.gz", ("entity", "label"), named),
        "kg_relations.tsv.gz": write_tsv(
            out / "kg_relations.tsv.gz", ("relation", "head_type", "tail_type", "provider", "licence"), described
        ),
    }


def main() -> None:
    """Build, describe and check-sum the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, help="folder that holds the source folders")
    parser.add_argument("out", type=Path, nargs="?", default=Path(__file__).parents[1] / "data")
    arguments = parser.parse_args()
    counts = build_corpus(arguments.sources, arguments.out)
    write_manifest(arguments.out, counts["rows"])
    write_checksums(arguments.out)
    write(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
