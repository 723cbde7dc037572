"""What each facet of ``mkmed.similar_drugs`` tells, on labels that it was not made from, and 25 drugs' neighbours.

    python benchmarks/bench_facets.py

Needs a published run on the knowledge base of MKMED_HOME with the bundled graph. ``mechanism`` is measured on pairs of
drugs with opposite effects (``embed/evaluation/data/opposed.tsv``) and on pharmacologic classes; ``use``, made from one
provider's indications alone, on another's; ``structure`` on ATC level 4 (chemical subgroups).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from record import report

NEAR = 10
FACETS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mechanism", {"by": "mechanism"}), ("fused", {}), ("use", {"by": "use"}))
KNOWN = (
    "Morphine", "Naloxone", "Metformin", "Insulin glargine", "Aspirin", "Ibuprofen", "Paracetamol", "Warfarin",
    "Heparin", "Atorvastatin", "Lisinopril", "Losartan", "Amlodipine", "Metoprolol", "Salbutamol", "Prednisone",
    "Levothyroxine",
    "Omeprazole", "Amoxicillin", "Ciprofloxacin", "Fluoxetine", "Haloperidol", "Diazepam", "Flumazenil", "Tamoxifen")


def opposed() -> list[tuple[str, str, str]]:
    """The pairs: what activates, what inhibits, and the target."""
    text = (files("embed") / "evaluation" / "data" / "opposed.tsv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [(row["activates"], row["inhibits"], row["target"]) for row in csv.DictReader(lines, delimiter="\t")]


def ranks_apart(engine: Any) -> list[dict[str, Any]]:
    """How many opposed pairs are not among each other's ten nearest, by mechanism and by the fused vectors."""
    from embed.search import neighbours
    from kb.errors import MkmedError

    rows, found = [], []
    for first, second, target in opposed():
        told: dict[str, Any] = {"activates": first, "inhibits": second, "target": target}
        for name, options in FACETS[:2]:
            near: dict[str, bool | None] = {}
            for drug, other in ((first, second), (second, first)):
                try:
                    near[drug] = other.lower() in [r["name"].lower() for r in neighbours(engine, drug, NEAR, **options)]
                except MkmedError:
                    near[drug] = None
            told[name] = None if None in near.values() else not any(near.values())
        found.append(told)
    for name in ("mechanism", "fused"):
        asked = [one[name] for one in found if one[name] is not None]
        rows.append({"facet": name, "label": f"opposed pairs that are not among each other's {NEAR} nearest",
                     "asked": len(asked), "share": float(np.mean(asked)),
                     "not apart": ", ".join(f"{o['activates']}/{o['inhibits']}" for o in found if o[name] is False),
                     "not told": ", ".join(f"{o['activates']}/{o['inhibits']}" for o in found if o[name] is None)})
    return rows


def nearest_shares(vectors: Mapping[int, Mapping[Any, float]], labels: Mapping[int, set[Any]],
                   ties: Mapping[int, Mapping[Any, float]] | None = None) -> tuple[int, float]:
    """``(drugs asked, share)`` of drugs whose nearest other drug, of those with a label, shares a label with them.

    Of equally near ones the nearest by ``ties`` counts, as in ``mkmed.similar_drugs``.
    """
    drugs = sorted(set(vectors) & set(labels))
    similarity = cosines(vectors, drugs).round(6)
    if ties is not None:
        similarity += 1e-7 * cosines(ties, drugs)
    np.fill_diagonal(similarity, -np.inf)
    best = similarity.argmax(1)
    return len(drugs), float(np.mean([bool(labels[d] & labels[drugs[b]]) for d, b in zip(drugs, best, strict=True)]))


def cosines(vectors: Mapping[int, Mapping[Any, float]], drugs: list[int]) -> Any:
    """The cosine similarities [N, N] of these drugs' vectors."""
    columns = {feature: k for k, feature in enumerate(sorted({f for d in drugs for f in vectors[d]}, key=str))}
    matrix = np.zeros((len(drugs), len(columns)))
    for row, drug in enumerate(drugs):
        for feature, value in vectors[drug].items():
            matrix[row, columns[feature]] = value
    matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    return matrix @ matrix.T


def grouped(rows: Any, value: Callable[[Any], Any]) -> dict[int, set[Any]]:
    """The values of each drug."""
    out: dict[int, set[Any]] = defaultdict(set)
    for row in rows:
        out[int(row.drug_id)].add(value(row))
    return out


def own_labels(engine: Any) -> list[dict[str, Any]]:
    """Each facet beside the fused vectors, on labels of its own."""
    from sqlalchemy import text

    from embed.runs import store

    def ask(connection: Any, query: str) -> Any:
        return connection.execute(text(query)).all()

    with engine.connect() as connection:
        acts = ask(connection, "SELECT * FROM mkmed.facet_features('mechanism')")
        members = ask(connection, """
            SELECT l.drug_id, k.head FROM mkmed.kg_triple k JOIN mkmed.kg_relation r ON r.id = k.relation
            JOIN mkmed.drug_entity l ON l.entity_id = k.tail AND NOT l.weak WHERE r.name LIKE '%PCiC%'""")
        classes = grouped(members, lambda row: row.head)
        uses = ask(connection, "SELECT drug_id, lower(disease_label) AS disease, provider FROM mkmed.drug_uses"
                               " WHERE disease_label IS NOT NULL")
        coded = ask(connection, "SELECT drug_id, code FROM mkmed.atc WHERE length(code) >= 5")
        codes = grouped(coded, lambda row: row.code[:5])
    mechanism: dict[int, dict[Any, float]] = defaultdict(dict)
    for row in acts:
        mechanism[int(row.drug_id)] |= {(row.feature, "x"): row.x, (row.feature, "y"): row.y}
    providers = sorted({row.provider for row in uses}, key=lambda p: -sum(row.provider == p for row in uses))[:2]
    given, truth = (grouped([r for r in uses if r.provider == p], lambda r: tuple(sorted(set(r.disease.split()))))
                    for p in providers)
    by_use = {drug: dict.fromkeys(own, 1.0) for drug, own in given.items()}
    run = store.published_run(engine)

    def vectors(kind: str) -> dict[int, dict[Any, float]]:
        one = store.read(engine, run, kind)
        return {int(i): dict(enumerate(v.tolist())) for i, v in zip(one.drug_ids, one.matrix, strict=True)}

    fused = vectors("fused")
    with engine.connect() as connection:
        kinds = connection.scalar(text("SELECT modalities FROM mkmed.published_run"))
    parts: list[tuple[str, str, str, Mapping[int, Any], Mapping[int, set[Any]]]] = [
        ("mechanism", "effects on targets", "pharmacologic class (FDA, by Hetionet)", mechanism, classes),
        ("mechanism", "effects on targets", "ATC level 4", mechanism, codes),
        ("use", f"indications of {providers[0]}", f"indications of {providers[1]}", by_use, truth)]
    parts += [("structure", f"{kind} vectors", "ATC level 4", vectors(kind), codes)
              for kind in ("predicted", "molecule") if kind in kinds]
    rows = []
    for facet, kind, label, own, labels in parts:
        shared = {drug: own[drug] for drug in own if drug in fused}
        asked, share = nearest_shares(shared, labels, fused)
        _, rival = nearest_shares({drug: fused[drug] for drug in shared}, labels)
        rows.append({"facet": facet, "vectors": kind, "label": f"the nearest drug shares: {label}", "asked": asked,
                     "share": share, "fused vectors": rival})
    return rows


def judged() -> list[dict[str, str]]:
    """What is known to be wrong with neighbours: rows of drug, facet (* for any), neighbour and what."""
    text = Path(__file__).with_name("known_neighbours.tsv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t"))


def known_neighbours(engine: Any) -> list[dict[str, Any]]:
    """The nearest four of well-known drugs by each facet, and what is wrong with those that somebody judged.

    Each neighbour says whether it shares an ATC class at level 3 with the drug; None where one of them has no code.
    """
    from sqlalchemy import text

    from embed.search import neighbours
    from kb.errors import MkmedError
    from kb.query.read import find_drug

    with engine.connect() as connection:
        codes = grouped(connection.execute(text("SELECT drug_id, code FROM mkmed.atc WHERE length(code) >= 4")).all(),
                        lambda row: row.code[:4])
    rows = []
    for drug in KNOWN:
        row: dict[str, Any] = {"drug": drug}
        with engine.connect() as connection:
            own = codes.get(find_drug(connection, drug), set())
        for name, options in FACETS:
            try:
                row[name] = [{"name": one["name"], "same class": bool(own & codes[one["drug_id"]])
                              if own and codes.get(one["drug_id"]) else None}
                             for one in neighbours(engine, drug, 4, **options)]
            except MkmedError as error:
                row[name] = error.message
        found = {(name, one["name"]) for name, _ in FACETS if not isinstance(row[name], str) for one in row[name]}
        row["wrong"] = [{"facet": name, "neighbour": one["neighbour"], "what": one["what"]}
                        for name, _ in FACETS for one in judged()
                        if one["drug"] == drug and one["facet"] in ("*", name) and (name, one["neighbour"]) in found]
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print."""
    from kb.db.engine import open_engine

    engine = open_engine()
    report("facets", [*ranks_apart(engine), *own_labels(engine)], neighbours=known_neighbours(engine))


if __name__ == "__main__":
    main()
