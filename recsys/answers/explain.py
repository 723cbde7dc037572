"""Why a medication was recommended: leave one code out, leave one modality out, and see how its score moves.

Every share is a difference of the medication's logit: with everything, minus without the one thing. Positive speaks
for the medication, negative against. Shares need not add up, because codes and modalities act together.

A modality is left out of every medication's vector at once, those of the patient's history too, and the vector without
it is what the embedding run's own fusion makes of the rest. Where the run's weights were not on the disk when the
recommender was trained, both sides are normalised means of the modality vectors instead, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kb.errors import NotUnderstood
from kb.pictures import save_figure
from kb.settings import Settings
from recsys.answers.fragments import MOLECULES, FragmentReader
from recsys.answers.patient import Patient
from recsys.answers.recommend import MIN_COVERAGE, UNDERSTANDING, WARNING, RecommenderService
from recsys.cohorts.batches import Histories
from recsys.experiments.decode import logit
from recsys.experiments.threads import one_thread
from recsys.knowledge.table import mean_vector
from recsys.recommenders.layers import DrugTable
from recsys.recommenders.network import NeuralRecommender
from recsys.recommenders.pairs import Pairs

BY_FUSION = "change of the logit when left out; vectors by the embedding run's own fusion"
BY_MEAN = "change of the logit when left out; vectors as means of their modalities, for want of the run's fusion"


@dataclass(frozen=True)
class CodeShare:
    """What one code of one visit contributes."""

    visit: int
    """1 is the first visit."""
    kind: str
    code: str
    change: float
    """In logits."""
    name: str = ""
    """What the code means, where a table says it."""

    @property
    def shown(self) -> str:
        """The code with what it means."""
        return f"{self.code} ({self.name})" if self.name else self.code


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
    evidence: dict[str, float] = field(default_factory=dict)
    """Kind of evidence -> what it adds to the logit, where the recommender is a sum of such kinds."""
    method: str = BY_MEAN
    """How modalities and fragments were left out: BY_FUSION or BY_MEAN."""
    warning: str = WARNING

    def as_json(self) -> dict[str, Any]:
        """The explanation as plain values."""
        return {**vars(self), "codes": [vars(item) for item in self.codes]}

    def rows(self, limit: int = 5) -> list[dict[str, Any]]:
        """The strongest reasons as rows of a table."""
        rows = [{"medication": self.code, "because of": f"visit {item.visit} {item.kind} {item.shown}",
                 "change": item.change} for item in self.codes[:limit]]
        rows += [{"medication": self.code, "because of": f"modality {name}", "change": change}
                 for name, change in sorted(self.modalities.items(), key=lambda item: -abs(item[1])) if change]
        rows += [{"medication": self.code, "because of": name, "change": change}
                 for name, change in sorted(self.evidence.items(), key=lambda item: -abs(item[1])) if change]
        return rows + [{"medication": self.code, "because of": f"fragment {smiles}", "change": share}
                       for smiles, share in self.fragments[:3]]


@one_thread()
def explain(service: RecommenderService, patient: Patient, medications: Sequence[str] | None = None,
            fragments: FragmentReader | None = None, *, min_coverage: float = MIN_COVERAGE) -> list[Explanation]:
    """The explanations of the given medications, of all recommended ones by default.

    ``fragments`` encodes molecules without each of their fragments; see recsys.answers.fragments.
    Raises NotUnderstood where less than ``min_coverage`` of the patient is understood.
    """
    answer = service.recommend(patient, min_coverage=min_coverage)
    if answer.refused:
        raise NotUnderstood(answer.refused, hint=UNDERSTANDING)
    wanted = list(medications) if medications is not None else [item.code for item in answer.recommended]
    rows = [service.vocabularies["medication"].index(code) for code in wanted]
    if not rows:
        return []
    places, without = _without_each_code(patient)
    visits, _ = service.histories([patient, *without])
    raw = service.probabilities(visits)
    score = logit(raw)[:, rows]
    calibrated = service.trained.platt.apply(raw[:1])[0]
    known = [bool(service.numbers(kind, code)) for _, kind, code in places]
    meanings = [service.meaning(kind, written) for _, kind, written in places]
    shift = _Shift.of(service)
    modalities = shift.modalities(patient, rows) if shift else {}
    model = service.trained.recommender
    last = int(visits.starts[1]) - 1
    parts = model.parts(visits, last) if isinstance(model, Pairs) else {}
    explanations = []
    for column, (code, row) in enumerate(zip(wanted, rows, strict=True)):
        shares = [CodeShare(visit, kind, written, float(score[0, column] - score[i + 1, column]), meanings[i])
                  for i, (visit, kind, written) in enumerate(places) if known[i]]
        shares.sort(key=lambda item: -abs(item.change))
        pieces = shift.fragments(patient, row, fragments) if shift and fragments is not None else []
        explanations.append(Explanation(code, service.knowledge.names[row], float(calibrated[row]), shares,
                                        {name: float(change[column]) for name, change in modalities.items()}, pieces,
                                        {name: float(added[row]) for name, added in parts.items()},
                                        shift.method if shift else BY_MEAN))
    return explanations


def explain_with_fragments(service: RecommenderService, patient: Patient, medications: Sequence[str],
                           settings: Settings, *, min_coverage: float = MIN_COVERAGE) -> list[Explanation]:
    """As explain, with fragments where the embedding run's molecule encoder is on this disk."""
    from recsys.answers.fragments import fragment_reader

    return explain(service, patient, medications, fragment_reader(settings, service.knowledge.vectors_run),
                   min_coverage=min_coverage)


def _without_each_code(patient: Patient) -> tuple[list[tuple[int, str, str]], list[Patient]]:
    """The place (visit, kind, code) of every code, and the patient without it."""
    places, patients = [], []
    for number, visit in enumerate(patient.visits):
        for kind, codes in visit.by_kind().items():
            for code in codes:
                places.append((number + 1, kind, code))
                changed = visit.without(kind, code)
                patients.append(Patient((*patient.visits[:number], changed, *patient.visits[number + 1:])))
    return places, patients


@dataclass(frozen=True)
class _Shift:
    """Logits under a drug table whose vectors lack something.

    What a modality or fragment adds to the published vectors is taken from the model's table, so that vectors that
    went on learning (``frozen=false``) are explained as they are.
    """

    service: RecommenderService
    table: DrugTable

    @classmethod
    def of(cls, service: RecommenderService) -> _Shift | None:
        """The shift of a recommender that has a drug table, when the store separates modalities."""
        model = service.trained.recommender
        table = getattr(model.network, "drugs", None) if isinstance(model, NeuralRecommender) else None
        known = service.knowledge.composition is not None or service.knowledge.modality_vectors is not None
        return cls(service, table) if isinstance(table, DrugTable) and known else None

    @property
    def method(self) -> str:
        """How vectors without something are made."""
        return BY_MEAN if self.service.knowledge.composition is None else BY_FUSION

    def _score(self, visits: Histories, rows: Sequence[int], change: np.ndarray) -> np.ndarray:
        with _moved(self.table, change):
            return logit(self.service.probabilities(visits))[0, rows]

    def modalities(self, patient: Patient, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """Modality -> float[len(rows)]: logit with all of the medications' modalities minus logit without this one."""
        knowledge = self.service.knowledge
        visits, _ = self.service.histories([patient])
        whole = self._score(visits, rows, np.zeros_like(knowledge.vectors))
        changes = {}
        for position, name in enumerate(knowledge.modalities):
            on = knowledge.rests_on[:, position]
            change = np.where(on[:, None], self._without(name, position), 0).astype(np.float32)
            changes[name] = np.where(on[list(rows)], whole - self._score(visits, rows, change), 0.0)
        return changes

    def _without(self, name: str, position: int) -> np.ndarray:
        """float32[K, D]: what the published vectors lose with a modality, with the sign of a change."""
        knowledge = self.service.knowledge
        if knowledge.composition is not None:
            return knowledge.composition.without(name) - knowledge.composition.whole
        assert knowledge.modality_vectors is not None  # _Shift.of asked
        mask = knowledge.rests_on.copy()
        mask[:, position] = False
        return mean_vector(knowledge.modality_vectors, mask) - mean_vector(knowledge.modality_vectors,
                                                                           knowledge.rests_on)

    def fragments(self, patient: Patient, row: int, reader: FragmentReader) -> list[tuple[str, float]]:
        """(fragment, logit with it minus logit without it), strongest first, of one medication's molecules."""
        knowledge = self.service.knowledge
        parts = knowledge.composition
        if not any(on and name == "molecule"
                   for name, on in zip(knowledge.modalities, knowledge.rests_on[row], strict=True)):
            return []
        drugs = parts.molecules(row, MOLECULES) if parts is not None else np.empty(0, np.int64)
        smiles = list(knowledge.smiles[row][:MOLECULES]) if parts is None else [parts.smiles[drug] for drug in drugs]
        visits, _ = self.service.histories([patient])
        change = np.zeros_like(knowledge.vectors)
        whole, found = self._score(visits, [row], change), []
        for name, moved in reader(smiles):
            change[row] = self._without_fragment(row, drugs, moved)
            found.append((name, float((whole - self._score(visits, [row], change))[0])))
        return sorted(found, key=lambda item: -abs(item[1]))

    def _without_fragment(self, row: int, drugs: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """float32[D]: how the medication's vector changes when its molecules' vectors are ``moved`` [molecules, D]."""
        knowledge = self.service.knowledge
        if knowledge.composition is not None:
            return knowledge.composition.with_molecules(row, drugs, moved) - knowledge.composition.whole[row]
        assert knowledge.modality_vectors is not None  # _Shift.of asked
        alone, mask = knowledge.modality_vectors[:, row:row + 1], knowledge.rests_on[row:row + 1]
        other = alone.copy()
        other[knowledge.modalities.index("molecule"), 0] += moved.mean(0)
        return (mean_vector(other, mask) - mean_vector(alone, mask))[0]


@contextmanager
def _moved(table: DrugTable, change: np.ndarray) -> Iterator[None]:
    """The drug table with vectors moved by ``change`` [K, D] for as long as the context lasts."""
    kept = table.vectors.detach().clone()
    with torch.no_grad():
        table.vectors.add_(torch.from_numpy(change))
    try:
        yield
    finally:
        with torch.no_grad():
            table.vectors.copy_(kept)


def draw(explanation: Explanation, path: Path, *, limit: int = 12) -> None:
    """Write a picture of one explanation: bars for codes and modalities, with the warning below."""
    from matplotlib.figure import Figure

    codes = explanation.codes[:limit][::-1]
    parts = sorted(explanation.modalities.items(), key=lambda item: abs(item[1]))
    figure = Figure(figsize=(9, 1.4 + 0.26 * max(len(codes), len(parts), 3)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    bars = [([f"visit {c.visit} · {c.shown:.60}" for c in codes], [c.change for c in codes], left, "codes"),
            ([name for name, _ in parts], [change for _, change in parts], right, "modalities of its vector")]
    for names, values, axis, title in bars:
        axis.barh(names, values, color=["#1f5fa8" if value >= 0 else "#b3452c" for value in values])
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_title(f"left out one at a time: {title}", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{explanation.code} · {explanation.name} · probability {explanation.probability:.2f}", fontsize=10)
    figure.supxlabel(f"{explanation.method}.\n{WARNING}", fontsize=8)
    save_figure(figure, path)
