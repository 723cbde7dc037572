"""The bundled tables of names: hospital shorthand and brands; ``kb/data/NOTICE.md`` has their licences."""

from __future__ import annotations

import csv
import gzip
from functools import lru_cache
from importlib.resources import files

from kb.names.words import canonical_name


@lru_cache(maxsize=1)
def written_names() -> dict[str, str]:
    """Hospital shorthand and what it means: names joined by +, ``ATC:code``, or ``none``."""
    with files("kb").joinpath("data", "written_names.tsv").open(encoding="utf-8") as stream:
        rows = csv.reader((line for line in stream if not line.startswith("#")), delimiter="\t")
        return {canonical_name(written): means for written, means in list(rows)[1:]}


@lru_cache(maxsize=1)
def brand_names() -> dict[str, str]:
    """Brands, codes and spellings, and the generic name of each."""
    packed = files("kb").joinpath("data", "brand_names.tsv.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    return {row["variant"]: row["means"] for row in csv.DictReader(lines, delimiter="\t")}


def generic_of(text: str) -> tuple[str, ...]:
    """The generic names that a brand or shorthand stands for, several for a combination; empty where it is neither."""
    name = canonical_name(text)
    means = written_names().get(name) or brand_names().get(name) or ""
    if not means or means == "none" or means.startswith("ATC:"):
        return ()
    return tuple(means.split(" + "))
