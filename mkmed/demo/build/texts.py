"""Gathers the descriptions: each with its provider and its own licence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from mkmed.demo.build.drugs import Drug
from mkmed.demo.build.tables import flat, read_tsv
from mkmed.demo.build.vocabulary import DrugVocabulary

PROVIDERS = {
    "DrugCentral": ("DrugCentral", "CC-BY-SA-4.0", "definition"),
    "ChEBI": ("ChEBI", "CC-BY-4.0", "definition"),
    "FDA": ("FDA label (LabeledIn)", "LicenseRef-US-Government", "indications"),
    "WordNet": ("WordNet 3.0", "LicenseRef-WordNet-3.0", "gloss"),
}
SKELETON = 14
"""Characters of an InChIKey that say the skeleton: what stereo, isotopes and charge leave alone."""
_SKELETON = "same skeleton, other stereo or salt"


@dataclass(frozen=True)
class Text:
    """One description of the drug ``key``."""

    key: str
    provider: str
    licence: str
    heading: str
    is_note: str
    content: str


def _provider(named: str) -> tuple[str, str, str]:
    provider, licence, heading = next(v for k, v in PROVIDERS.items() if named.startswith(k))
    return provider, licence, f"{heading} ({_SKELETON})" if "skeleton" in named else heading


def is_note(content: str) -> bool:
    """Whether a definition only says where to look, e.g. "structure given in first source"."""
    lowered = content.lower()
    return len(content) < 160 and any(
        sign in lowered for sign in ("structure given", "structure in first", "rn given", "given in first source")
    )


def corpus_texts(sources: Path) -> list[Text]:
    """The texts of the drugs that have a structure, as joined and checked earlier."""
    found = []
    for row in read_tsv(sources / "demo_corpus/drug_texts.tsv"):
        provider, licence, heading = _provider(row["source"])
        found.append(
            Text(f"drugbank:{row['drugbank']}", provider, licence, heading, row["is_index_note"], row["text"])
        )
    return found


def further_texts(
    sources: Path, vocabulary: DrugVocabulary, drugcentral_ids: dict[str, str], known: set[str]
) -> tuple[list[Text], dict[str, str]]:
    """DrugCentral's definitions of all other drugs, joined by name only, and the names of drugs met first here.

    Identifiers and synonyms of that export belong to other rows and are not read. A name that is in no vocabulary
    becomes a drug of its own: under its DrugCentral id where the 2021 release has the name, else under its name.
    """
    found, names = [], {}
    path = sources / "drugcentral_pharmgkb/drugcentral_54_drugcentral.tsv"
    provider, licence, heading = PROVIDERS["DrugCentral"]
    for row in read_tsv(path):
        name, content = flat(row["name"]), flat(row["definition"])
        if not content or not name:
            continue
        drugbank = vocabulary.find(name)
        key = f"drugbank:{drugbank}" if drugbank else drugcentral_ids.get(name.lower(), f"name:{slug(name)}")
        if key in known:
            continue
        if not drugbank:
            names[key] = name
        found.append(Text(key, provider, licence, heading, str(int(is_note(content))), content))
    return found, names


def chebi_texts(sources: Path, drugs: Mapping[str, Drug], known: Set[str]) -> list[Text]:
    """ChEBI's definition of the compound with the skeleton of a drug that has no text yet, the smallest CID's.

    Raises ContractViolation when the recorded properties have a CID that the definitions have not.
    """
    said = dict(_definitions(sources))
    keys: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in read_tsv(sources / "chebi20_pubchem/pubchem_properties.tsv.gz"):
        keys[row["iupac_inchikey"][:SKELETON]].append((int(row["compound_cid"]), row["iupac_inchikey"]))
    provider, licence, heading = PROVIDERS["ChEBI"]
    found = []
    for key, drug in drugs.items():
        if key in known or not drug.inchikey:
            continue
        candidates = sorted((other != drug.inchikey, cid) for cid, other in keys.get(drug.inchikey[:SKELETON], []))
        if candidates:
            differs, cid = candidates[0]
            headed = f"{heading} ({_SKELETON})" if differs else heading
            found.append(Text(key, provider, licence, headed, "0", said[cid]))
    return found


def _definitions(sources: Path) -> Iterator[tuple[int, str]]:
    """CID and definition of every compound of ChEBI-20's validation and test parts."""
    for part in ("validation", "test"):
        for row in read_tsv(sources / f"chebi20_pubchem/ChEBI-20_{part}.txt"):
            yield int(row["CID"]), flat(row["description"])


def slug(name: str) -> str:
    """The name with everything but letters and digits made one hyphen, at most 59 characters."""
    kept = "".join(c if c.isascii() and c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split())[:59]
