"""Finds whose the brand and other names of the open tables are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from kb.names.tables import brand_names, written_names
from kb.names.words import canonical_name
from mkmed.demo.build.drugs import Drug
from mkmed.demo.build.tables import read_tsv

LICENCE = "CC-BY-SA-3.0"


def name_rows(sources: Path, drugs: Mapping[str, Drug]) -> Iterator[dict[str, str]]:
    """One row a name that no drug of the corpus has yet, and whose generic name is that of exactly one drug."""
    preferred: dict[str, set[str]] = defaultdict(set)
    others: dict[str, set[str]] = defaultdict(set)
    for drug in drugs.values():
        preferred[canonical_name(drug.name)].add(drug.key)
        for synonym in drug.synonyms:
            others[canonical_name(synonym)].add(drug.key)
    for name, generic in sorted({**brand_names(), **_agreed(sources)}.items()):
        owners = preferred.get(generic) or others.get(generic, set())
        if len(owners) == 1 and name not in preferred and name not in others:
            (key,) = owners
            if not key.startswith("name:"):  # no identifier, by which a claim of another source could be joined
                yield {"key": key, "name": name, "licence": LICENCE}


def _agreed(sources: Path) -> dict[str, str]:
    """Names of the whole table that hospital shorthand reads in the same way; of those ``brand_names`` has none."""
    shorthand = written_names()
    rows = ((canonical_name(row["variant"]), canonical_name(row["canonical"])) for row in
            read_tsv(sources / "brand_names/variants.tsv.gz"))
    return {name: generic for name, generic in rows if shorthand.get(name) == generic}
