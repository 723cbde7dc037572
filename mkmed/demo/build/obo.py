"""Reads the OBO exports of PharmGKB and DrugCentral (2021) as far as the corpus needs them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Term:
    """One term: its id, name, SMILES and cross-references by prefix."""

    id: str
    name: str
    smiles: str
    xrefs: dict[str, list[str]]

    def xref(self, prefix: str) -> list[str]:
        """The values under one prefix, or an empty list."""
        return self.xrefs.get(prefix, [])


_XREF = re.compile(r"^(?:xref:|property_value: skos:exactMatch) ([\w.]+):(\S+)", re.MULTILINE)


def read_terms(path: Path, prefix: str) -> list[Term]:
    """Every term whose id is ``prefix:…``, in the file's order."""
    terms = []
    for block in path.read_text(encoding="utf-8").split("\n[Term]\n")[1:]:
        identifier = re.search(rf"^id: {re.escape(prefix)}:(\S+)", block, re.MULTILINE)
        name = re.search(r"^name: (.*)$", block, re.MULTILINE)
        if identifier is None or name is None:
            continue
        smiles = re.search(r'smiles\w* "([^"]+)"', block)
        xrefs: dict[str, list[str]] = defaultdict(list)
        for space, value in _XREF.findall(block):
            xrefs[space].append(value)
        unescaped = re.sub(r"\\(.)", r"\1", name[1]).strip()
        terms.append(Term(identifier[1], unescaped, smiles[1].replace("\\\\", "\\") if smiles else "", dict(xrefs)))
    return terms
