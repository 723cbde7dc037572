"""Who is in the corpus: the DrugBank vocabulary (CC0), and whom a name belongs to."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

# Stems that the WHO gives to biologics (INN Programme, stem book 2018), and plain words for what has no structure.
_BIOLOGIC = re.compile(
    r"(mab|mab pegol|cept|ermin|leukin|poetin alfa|stim|kinra|teplase|plase|ase alfa|ase beta|grastim|tocog.*)\b"
    r"|\b(vaccine|insulin|interferon|globulin|immunoglobulin|antivenom|antitoxin|antigen|toxoid|pollen|albumin"
    r"|plasma|venom|allergenic|collagenase|thrombin|fibrinogen|factor (VII|VIII|IX|X|XIII)[a-z]*|heparin)\b",
    re.IGNORECASE,
)
_ACCESSION = re.compile(r"\b(BIOD|BTD)\d")


@dataclass
class VocabularyEntry:
    """One drug of the vocabulary."""

    drugbank: str
    name: str
    cas: str
    unii: str
    inchikey: str
    synonyms: list[str]
    accessions: str

    @property
    def kind(self) -> str:
        """small molecule where there is an InChIKey; biologic by accession (BIOD, BTD) or INN stem; else unknown."""
        if self.inchikey:
            return "small molecule"
        if _ACCESSION.search(self.accessions) or _BIOLOGIC.search(self.name):
            return "biologic"
        return "unknown"


@dataclass
class DrugVocabulary:
    """All entries by DrugBank id, and the ids that a name stands for."""

    entries: dict[str, VocabularyEntry]
    preferred: dict[str, str] = field(default_factory=dict)
    synonyms: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def find(self, name: str) -> str | None:
        """The one DrugBank id that has this name, or this synonym if no other has it."""
        key = name.strip().lower()
        if key in self.preferred:
            return self.preferred[key]
        known = self.synonyms.get(key, set())
        return next(iter(known)) if len(known) == 1 else None


def read_vocabulary(folder: Path) -> DrugVocabulary:
    """The vocabulary from ``drugbank_vocabulary.csv``."""
    with (folder / "drugbank_vocabulary.csv").open(encoding="utf-8-sig") as lines:
        found = DrugVocabulary({})
        for row in csv.DictReader(lines):
            entry = VocabularyEntry(
                row["DrugBank ID"],
                row["Common name"],
                row["CAS"].strip(),
                row["UNII"].strip(),
                row["Standard InChI Key"].strip(),
                [s.strip() for s in row["Synonyms"].split(" | ") if s.strip()],
                row["Accession Numbers"],
            )
            found.entries[entry.drugbank] = entry
            found.preferred.setdefault(entry.name.lower(), entry.drugbank)
            for synonym in entry.synonyms:
                found.synonyms[synonym.lower()].add(entry.drugbank)
    return found
