"""What is known of drugs and never shown to training: ATC codes, interactions, indications, and the core set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from kb.query import read as query


@dataclass(frozen=True)
class EvaluationLabels:
    """By row number of the drugs: ATC codes, pairs that interact, pairs (row, disease), and who is of the core set."""

    codes: list[list[str]]
    interactions: NDArray[np.int64]
    indications: NDArray[np.int64]
    core: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> EvaluationLabels:
        """The labels of the drugs at ``rows``, numbered anew."""
        number = np.full(len(self.codes), -1, np.int64)
        number[rows] = np.arange(len(rows))
        pairs = number[self.interactions]
        given = self.indications[number[self.indications[:, 0]] >= 0]
        return EvaluationLabels([self.codes[i] for i in rows], pairs[(pairs >= 0).all(1)],
                      np.stack([number[given[:, 0]], given[:, 1]], 1), self.core[rows])


def read_labels(engine: Engine, drug_ids: NDArray[np.int64]) -> EvaluationLabels:
    """The labels of the drugs, by row number."""
    row = {int(drug_id): number for number, drug_id in enumerate(drug_ids)}
    with engine.connect() as connection:
        codes: list[list[str]] = [[] for _ in row]
        for drug_id, code in query.atc(connection):
            if drug_id in row:
                codes[row[drug_id]].append(code)
        found = query.interactions(connection)
        pairs = [(row[a], row[b]) for a, b in zip(found.drug_a.tolist(), found.drug_b.tolist(), strict=True)
                 if a in row and b in row]
        core = np.zeros(len(row), bool)
        listed = core_set()
        for drug_id, value in query.identifiers(connection, "drugbank"):
            if drug_id in row:
                core[row[drug_id]] |= value in listed
        indications = _indications(connection, row)
    return EvaluationLabels(codes, np.array(sorted(set(pairs)), np.int64).reshape(-1, 2), indications, core)


def core_set() -> set[str]:
    """The DrugBank ids of the evaluation set of 1,260 drugs."""
    lines = (files("embed") / "evaluation" / "data" / "core.txt").read_text().splitlines()
    return {line for line in lines if not line.startswith("#")}


def _indications(connection: query.Connection, row: dict[int, int]) -> NDArray[np.int64]:
    triples = query.triples(connection)
    wanted = [i for i, name in enumerate(triples.relations) if any(part in name for part in query.INDICATIONS)]
    keep = np.isin(triples.relation, wanted)
    drug_of: dict[int, list[int]] = {}
    at = {int(entity): number for number, entity in enumerate(triples.entity_ids)}
    for drug_id, entity in zip(*(part.tolist() for part in query.drug_entities(connection)), strict=True):
        if drug_id in row:
            drug_of.setdefault(at.get(entity, -1), []).append(row[drug_id])
    pairs = {
        (r, int(tail))
        for head, tail in zip(triples.head[keep], triples.tail[keep], strict=True)
        for r in drug_of.get(int(head), ())
        if triples.entity_types[tail] == "Disease"
    }
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def coded(codes: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Which drugs have an ATC code."""
    return np.array([bool(own) for own in codes], bool)
