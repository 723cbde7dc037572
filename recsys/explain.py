"""Why a medication was recommended: leave one code out, leave one modality out, and see how its score moves.

Every share is a difference of the medication's logit: with everything, minus without the one thing. Positive speaks
for the medication, negative against. Shares need not add up, because codes and modalities act together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from kb.settings import Settings
from recsys.decode import logit
from recsys.fragments import FragmentReader
from recsys.knowledge import mean_vector
from recsys.recommend import WARNING, Patient, RecommenderService, Visit
from recsys.recommenders.contract import NeuralRecommender
from recsys.recommenders.layers import DrugTable


@dataclass(frozen=True)
class CodeShare:
    """What one code of one visit contributes."""

    visit: int
    """1 is the first visit."""
    kind: str
    code: str
    change: float
    """In logits."""


@dataclass(frozen=True)
class Explanation:
    """The reasons for one medication."""

    code: str
    name: str
    probability: float
    codes: list[CodeShare]
    """Strongest first."""
    modalities: dict[str, float]
    """Modality -> change of the logit; empty when the recommender or the store does not separate them."""
    fragments: list[tuple[str, float]]
    """BRICS fragments of its molecules as SMILES, with the change of the logit; empty without a molecule encoder."""
    warning: str = WARNING

    def as_json(self) -> dict[str, Any]:
        """The explanation as plain values."""
        return {**vars(self), "codes": [vars(item) for item in self.codes]}

    def rows(self, limit: int = 5) -> list[dict[str, Any]]:
        """The strongest reasons as rows of a table."""
        rows = [{"medication": self.code, "because of": f"visit {item.visit} {item.kind} {item.code}",
                 "change": item.change} for item in self.codes[:limit]]
        rows += [{"medication": self.code, "because of": f"modality {name}", "change": change}
                 for name, change in sorted(self.modalities.items(), key=lambda item: -abs(item[1])) if change]
        return rows + [{"medication": self.code, "because of": f"fragment {smiles}", "change": share}
                       for smiles, share in self.fragments[:3]]


def explain(service: RecommenderService, patient: Patient, medications: Sequence[str] | None = None,
            fragments: FragmentReader | None = None) -> list[Explanation]:
    """The explanations of the given medications, of all recommended ones by default.

    ``fragments`` encodes molecules without each of their fragments; see recsys.fragments.
    """
    answer = service.recommend(patient)
    wanted = list(medications) if medications is not None else [item.code for item in answer.recommended]
    rows = [service.vocabularies["medication"].index(code) for code in wanted]
    if not rows:
        return []
    places, without = _without_each_code(patient)
    visits, _ = service.histories([patient, *without])
    raw = service.probabilities(visits)
    score = logit(raw)[:, rows]
    calibrated = service.trained.platt.apply(raw[:1])[0]
    known = [code in service.vocabularies[kind] for _, kind, code in places]
    modalities = _without_each_modality(service, patient, rows)
    smiles = service.knowledge.smiles
    explanations = []
    for column, (code, row) in enumerate(zip(wanted, rows, strict=True)):
        shares = [CodeShare(visit, kind, name, float(score[0, column] - score[i + 1, column]))
                  for i, (visit, kind, name) in enumerate(places) if known[i]]
        shares.sort(key=lambda item: -abs(item.change))
        pieces = _without_each_fragment(service, patient, row, fragments(smiles[row])) if fragments is not None and (
            smiles and smiles[row]) else []
        explanations.append(Explanation(code, service.knowledge.names[row], float(calibrated[row]), shares,
                                        {name: float(change[column]) for name, change in modalities.items()}, pieces))
    return explanations


def explain_with_fragments(service: RecommenderService, patient: Patient, medications: Sequence[str],
                           settings: Settings) -> list[Explanation]:
    """As explain, with fragments where the embedding run's molecule encoder is on this disk."""
    from recsys.fragments import fragment_reader

    return explain(service, patient, medications, fragment_reader(settings, service.knowledge.vectors_run))


def _without_each_code(patient: Patient) -> tuple[list[tuple[int, str, str]], list[Patient]]:
    """The place (visit, kind, code) of every code, and the patient without it."""
    places, patients = [], []
    for number, visit in enumerate(patient.visits):
        for kind in ("diagnosis", "procedure", "medication"):
            for code in getattr(visit, kind):
                left = tuple(other for other in getattr(visit, kind) if other != code)
                changed: Visit = replace(visit, **{kind: left})
                places.append((number + 1, kind, code))
                patients.append(Patient((*patient.visits[:number], changed, *patient.visits[number + 1:])))
    return places, patients


class _Scorer:
    """Logits of some medications for one patient under other modality vectors.

    Both sides of a comparison use the normalised mean of the modality vectors, so that only the one thing left out
    differs between them.
    """

    def __init__(self, service: RecommenderService, patient: Patient, rows: list[int], table: DrugTable) -> None:
        self.service, self.rows, self.table = service, rows, table
        self.visits, _ = service.histories([patient])

    def __call__(self, alone: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with _vectors(self.table, mean_vector(alone, mask)):
            return logit(self.service.probabilities(self.visits))[0, self.rows]


def _table(service: RecommenderService) -> DrugTable | None:
    """The drug table of the recommender, if it has one and the store separates modalities."""
    model = service.trained.recommender
    if service.knowledge.modality_vectors is None or not isinstance(model, NeuralRecommender):
        return None
    table = getattr(model.network, "drugs", None)
    return table if isinstance(table, DrugTable) else None


def _without_each_fragment(service: RecommenderService, patient: Patient, row: int,
                           pieces: list[tuple[str, np.ndarray]]) -> list[tuple[str, float]]:
    """(fragment, logit with it minus logit without it), strongest first."""
    knowledge, table = service.knowledge, _table(service)
    alone = knowledge.modality_vectors
    if table is None or alone is None or "molecule" not in knowledge.modalities:
        return []
    place = knowledge.modalities.index("molecule")
    if not knowledge.rests_on[row, place]:
        return []
    score = _Scorer(service, patient, [row], table)
    whole, found = score(alone, knowledge.rests_on), []
    for name, change in pieces:
        other = alone.copy()
        other[place, row] += change
        found.append((name, float((whole - score(other, knowledge.rests_on))[0])))
    return sorted(found, key=lambda item: -abs(item[1]))


def _without_each_modality(service: RecommenderService, patient: Patient, rows: list[int]) -> dict[str, np.ndarray]:
    """Modality -> float[len(rows)]: logit with all of the medications' modalities minus logit without this one."""
    knowledge, table = service.knowledge, _table(service)
    alone = knowledge.modality_vectors
    if table is None or alone is None:
        return {}
    score = _Scorer(service, patient, rows, table)
    whole = score(alone, knowledge.rests_on)
    changes = {}
    for position, name in enumerate(knowledge.modalities):
        mask = knowledge.rests_on.copy()
        mask[:, position] = False
        changes[name] = np.where(knowledge.rests_on[rows, position], whole - score(alone, mask), 0.0)
    return changes


@contextmanager
def _vectors(table: DrugTable, vectors: np.ndarray) -> Iterator[None]:
    """The drug table with other vectors for as long as the context lasts."""
    kept = table.vectors.detach().clone()
    with torch.no_grad():
        table.vectors.copy_(torch.from_numpy(vectors))
    try:
        yield
    finally:
        with torch.no_grad():
            table.vectors.copy_(kept)


def draw(explanation: Explanation, path: Any, *, limit: int = 12) -> None:
    """Write a picture of one explanation: bars for codes and modalities, with the warning below."""
    from matplotlib.figure import Figure

    codes = explanation.codes[:limit][::-1]
    parts = sorted(explanation.modalities.items(), key=lambda item: abs(item[1]))
    figure = Figure(figsize=(9, 1.4 + 0.26 * max(len(codes), len(parts), 3)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    bars = [([f"visit {c.visit} · {c.code}" for c in codes], [c.change for c in codes], left, "codes"),
            ([name for name, _ in parts], [change for _, change in parts], right, "modalities of its vector")]
    for names, values, axis, title in bars:
        axis.barh(names, values, color=["#1f5fa8" if value >= 0 else "#b3452c" for value in values])
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_title(f"left out one at a time: {title}", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{explanation.code} · {explanation.name} · probability {explanation.probability:.2f}", fontsize=10)
    figure.supxlabel(f"change of the logit.  {WARNING}", fontsize=8)
    figure.savefig(path, metadata={"Date": None} if str(path).endswith(".svg") else None)
