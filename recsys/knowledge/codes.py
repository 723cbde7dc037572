"""What clinical codes mean: the title of each code, and its place in a hierarchy in which ICD-9 and ICD-10 meet.

The tables are the public-domain releases of the Centers for Medicare & Medicaid Services (``data/NOTICE.md``).
"""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
from scipy import sparse

PATH_SYSTEMS = ("EICU",)
"""Systems whose codes are paths of words, the broadest first, as eICU's ``pulmonary|ventilation and oxygenation|…``."""


@lru_cache(maxsize=2)
def _table(name: str) -> bytes:
    """The lines ``code<tab>text`` of a table, in the order of their codes' bytes."""
    return gzip.decompress((files("recsys.knowledge") / "data" / name).read_bytes())


def _official_title(code: str) -> str | None:
    """The title of a code by bisection of the table's bytes: reading all 200,000 into a dict takes half a second."""
    table, wanted = _table("codes.tsv.gz"), code.encode(errors="replace")
    low, high = 0, len(table)
    while low < high:
        start = table.rfind(b"\n", 0, (low + high) // 2) + 1  # the line that the middle lies in
        end = table.index(b"\n", start)
        key, _, words = table[start:end].partition(b"\t")
        if key == wanted:
            return words.decode()
        low, high = (end + 1, high) if key < wanted else (low, start)
    return None


@lru_cache(maxsize=1)
def _crosswalk() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = defaultdict(list)
    for line in _table("crosswalk.tsv.gz").decode().splitlines():
        old, _, new = line.partition("\t")
        found[old].append(new)
    return {old: tuple(new) for old, new in found.items()}


@lru_cache(maxsize=1)
def _blocks() -> list[tuple[str, str, str]]:
    """(first category, last category, code) of ICD-10-CM's blocks and chapters, the narrowest first."""
    spans = [span.decode() for span in re.findall(rb"^ICD10CM:([^\t\n]*-[^\t\n]*)\t", _table("codes.tsv.gz"), re.M)]
    listed = [(span[:3], span[4:7], f"ICD10CM:{span}") for span in spans]
    return sorted(listed, key=lambda item: (_order(item[1]) - _order(item[0]), item[2]))


def _order(category: str) -> int:
    """Where a three-character category stands; digits come before letters, as in the publisher's lists."""
    return int(category, 36)


def title(code: str) -> str | None:
    """The official title of a prefixed code or category, the words of a code that is a path, or None."""
    system, _, value = code.partition(":")
    if system in PATH_SYSTEMS:
        return ", ".join(part.strip() for part in value.split("|") if part.strip()) or None
    return _official_title(code)


def codes_of(system: str) -> list[str]:
    """The codes of a system that have a title, without ranges, in the order of their names."""
    listed = re.findall(rb"^" + re.escape(system).encode() + rb":([^\t\n]+)\t", _table("codes.tsv.gz"), re.M)
    return sorted(code.decode() for code in listed if b"-" not in code)


def code_lineage(code: str) -> tuple[str, ...]:
    """The code and everything above it, the nearest first: the nodes by which two codes are found to be related.

    An ICD-9-CM diagnosis stands below the ICD-10-CM codes that it is mapped to, so that both revisions meet; a
    procedure stands below its own prefixes, a path below its beginnings, anything else by itself.
    """
    system, _, value = code.partition(":")
    if system in PATH_SYSTEMS:
        parts = value.split("|")
        return tuple(f"{system}:{'|'.join(parts[:n])}" for n in range(len(parts), 0, -1))
    if system == "ICD9CM":
        mapped = [node for new in _crosswalk().get(code, ()) for node in code_lineage(new)]
        return tuple(dict.fromkeys((*_prefixes(system, value, 3), *mapped)))
    if system == "ICD10CM":
        above = [node for first, last, node in _blocks() if _order(first) <= _order(value[:3]) <= _order(last)]
        return (*_prefixes(system, value, 3), *above)
    if system == "ICD9PROC":
        return _prefixes(system, value, 2)
    if system == "ICD10PCS":
        return (code, f"{system}:{value[:4]}", f"{system}:{value[:3]}")
    return (code,)


def categories(code: str) -> tuple[str, ...]:
    """The code and what it stands below in the hierarchy, the nearest first, up to categories: no blocks, no chapters.

    A path of words goes up to its first two parts.
    """
    found = code_lineage(code)
    if code.partition(":")[0] in PATH_SYSTEMS:
        return tuple(node for node in found if node.count("|") or node == code)
    return tuple(node for node in found if "-" not in node)


def _prefixes(system: str, value: str, shortest: int) -> tuple[str, ...]:
    return tuple(f"{system}:{value[:n]}" for n in range(len(value), min(shortest, len(value)) - 1, -1))


def ancestry(codes: Sequence[str]) -> sparse.csr_matrix:
    """float32[C, A]: for each code its nodes in the hierarchy, each weighted by how far up it stands, rows of norm 1.

    The product with its transpose is the similarity of codes by their common ancestors: 1 for a code with itself.
    A node that only one code has is kept, so that unlike siblings stay apart.
    """
    nodes: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    weights: list[float] = []
    for row, code in enumerate(codes):
        above = code_lineage(code)
        for depth, node in enumerate(above):
            rows.append(row)
            columns.append(nodes.setdefault(node, len(nodes)))
            weights.append(0.7**depth)
    shape = (len(codes), max(len(nodes), 1))
    matrix = sparse.csr_matrix((np.asarray(weights, np.float32), (rows, columns)), shape=shape)
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return sparse.diags_array((1 / np.maximum(length, 1e-6)).astype(np.float32)) @ matrix
