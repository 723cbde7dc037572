"""Joins the drug table: the whole DrugBank vocabulary, with what else is openly known of each drug."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from mkmed.demo.build.obo import Term
from mkmed.demo.build.structures import structure_of
from mkmed.demo.build.tables import read_tsv
from mkmed.demo.build.vocabulary import DrugVocabulary

TIERS = ("core", "text", "further", "structure", "vocabulary")
COLUMNS = ("key", "tier", "name", "kind", "smiles", "smiles_from", "inchikey", "formula", "identifiers", "synonyms")


@dataclass
class Drug:
    """One row of drugs.tsv.gz."""

    key: str
    name: str
    kind: str
    tier: str = "vocabulary"
    smiles: str = ""
    smiles_from: str = ""
    inchikey: str = ""
    formula: str = ""
    identifiers: set[str] = field(default_factory=set)
    synonyms: list[str] = field(default_factory=list)

    def row(self) -> dict[str, str]:
        """The columns as text; identifiers and synonyms are joined by `` | ``."""
        synonyms = dict.fromkeys(s for s in self.synonyms if s.lower() != self.name.lower())
        return {
            **{name: getattr(self, name) for name in COLUMNS[:8]},
            "identifiers": " | ".join(sorted(self.identifiers)),
            "synonyms": " | ".join(synonyms),
        }


def from_vocabulary(vocabulary: DrugVocabulary) -> dict[str, Drug]:
    """Every vocabulary entry as a drug, with its CAS number, UNII and stated InChIKey."""
    drugs = {}
    for entry in vocabulary.entries.values():
        drug = Drug(f"drugbank:{entry.drugbank}", entry.name, entry.kind, inchikey=entry.inchikey)
        drug.identifiers.add(drug.key)
        drug.synonyms = list(entry.synonyms)
        if re.fullmatch(r"\d{2,7}-\d\d-\d", entry.cas):
            drug.identifiers.add(f"cas:{entry.cas}")
        if re.fullmatch(r"[0-9A-Z]{10}", entry.unii):
            drug.identifiers.add(f"unii:{entry.unii}")
        drugs[drug.key] = drug
    return drugs


def add_corpus(drugs: dict[str, Drug], sources: Path) -> None:
    """Fill in the 2,793 drugs with structure and text that were joined and checked earlier."""
    spaces = {"pubchem_cid": "pubchem.compound", "rxnorm": "rxcui", "unii": "unii", "cas": "cas"}
    spaces |= {"pharmgkb": "pharmgkb", "drugcentral": "drugcentral", "ccd": "ccd", "atc": "atc"}
    for row in read_tsv(sources / "demo_corpus/drugs.tsv"):
        drug = drugs[f"drugbank:{row['drugbank']}"]
        read = structure_of(row["smiles"])
        if read is None:
            continue
        drug.smiles, drug.inchikey = read
        drug.smiles_from, drug.kind = row["smiles_source"].removesuffix("/PubChem"), "small molecule"
        drug.tier = "core" if row["core"] == "1" else "text"
        for column, space in spaces.items():
            drug.identifiers |= {f"{space}:{v.strip()}" for v in re.split(r"[;|,]", row[column]) if v.strip()}


def add_pharmgkb(drugs: dict[str, Drug], vocabulary: DrugVocabulary, terms: list[Term]) -> dict[str, set[str]]:
    """Drug key → ATC codes by way of PharmGKB; its ids and RxNorm ids are added to the drugs.

    Joined by its DrugBank cross-reference, else by name. Terms whose ATC code is a class are classes, not drugs.
    """
    codes: dict[str, set[str]] = defaultdict(set)
    for term in terms:
        if any(len(code) < 7 for code in term.xref("atc")):
            continue
        ids = [i for i in term.xref("drugbank") if i in vocabulary.entries]
        if not ids and not term.xref("drugbank"):
            ids = [i for i in [vocabulary.find(term.name)] if i]
        for drugbank in ids:
            drug = drugs[f"drugbank:{drugbank}"]
            drug.identifiers.add(f"pharmgkb:{term.id}")
            drug.identifiers |= {f"rxcui:{value}" for value in term.xref("rxnorm")}
            codes[drug.key] |= set(term.xref("atc"))
    return codes


def add_rxnorm(drugs: dict[str, Drug], sources: Path) -> int:
    """The number of drugs that got an RxNorm ingredient through their UNII."""
    owners = {i: drug for drug in drugs.values() for i in drug.identifiers if i.startswith("unii:")}
    before = sum(any(i.startswith("rxcui:") for i in d.identifiers) for d in drugs.values())
    for row in read_tsv(sources / "mappings/rxcui_unii.tsv"):
        owner = owners.get(f"unii:{row['fdasrs_id']}")
        if owner is not None:
            owner.identifiers.add(f"rxcui:{row['rxnorm_id']}")
    return sum(any(i.startswith("rxcui:") for i in d.identifiers) for d in drugs.values()) - before


def add_ndc(drugs: dict[str, Drug], sources: Path) -> tuple[int, int]:
    """How many NDCs found their drug, of how many.

    The mapping leads to clinical drugs; LabeledIn leads from those to the ingredient; an ingredient of several drugs
    (two DrugBank ids under one RxNorm id) is left out.
    """
    text = (sources / "mappings/ndc2rxnorm_mapping.txt").read_text(encoding="utf-8")
    mapping: dict[str, str] = {k: v for k, v in ast.literal_eval(text).items() if v and re.fullmatch(r"\d{11}", k)}
    ingredients: dict[str, set[str]] = defaultdict(set)
    for line in (sources / "labeledin/LabeledIn_Structured_Results.txt").read_text("latin-1").splitlines():
        cells = line.split("|")
        for product in re.findall(r"\d+", f"{cells[5]};{cells[7]}"):
            ingredients[product].add(cells[3])
    owners: dict[str, list[Drug]] = defaultdict(list)
    for drug in drugs.values():
        for identifier in drug.identifiers:
            if identifier.startswith("rxcui:"):
                owners[identifier[6:]].append(drug)
    joined = 0
    for ndc, rxcui in mapping.items():
        reached = {i for i in ingredients.get(rxcui, {rxcui}) if i in owners}
        found = [drug for i in reached for drug in owners[i]]
        if len(found) == 1:
            found[0].identifiers.add(f"ndc:{ndc}")
            joined += 1
    return joined, len(mapping)
