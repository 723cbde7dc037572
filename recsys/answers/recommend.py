"""A patient's visits in, medications out, in milliseconds: the loaded recommender as an object.

What was given is told apart into what the recommender understands and what not. Where it understands too little, the
answer says so and has no scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kb.errors import CheckpointError
from kb.settings import Settings
from recsys.answers.alerts import AT_HOME, GIVEN, Alert, Taken, alerts
from recsys.answers.patient import Patient, Visit
from recsys.cohorts.batches import Histories, make_histories
from recsys.cohorts.cohort import DOOR, KINDS, KNOWN_AT_THE_DOOR, Ragged, Vocabulary, door_code
from recsys.cohorts.tasks import TASKS
from recsys.experiments.checkpoint import Trained
from recsys.experiments.decode import select, thresholds
from recsys.experiments.drift import Drift
from recsys.knowledge.codes import PATH_SYSTEMS, categories, title
from recsys.knowledge.indications import Indications
from recsys.orders.codes import normalised
from recsys.orders.stored import order_of, unpack

if TYPE_CHECKING:
    from recsys.orders.medications import MedicationMap
    from recsys.recommenders.contract import Recommender

WARNING = "Research software, not a medical device: nothing here may guide the treatment of a patient."
UNDERSTANDING = ("a code carries its system, e.g. ICD10CM:I509 or http://snomed.info/sct|38341003, and must be one that"
                 " training patients had; --min-coverage sets how much must be understood")
REMEMBERED = 100_000
"""Codes as written whose reading is remembered."""
MIN_COVERAGE = 0.5
"""The share of what was given that must be understood for an answer."""


class Recommendation(NamedTuple):
    """One recommended medication."""

    code: str
    name: str
    probability: float
    """Calibrated on validation patients."""
    given_before: int
    """How many earlier visits had it."""
    rests_on: tuple[str, ...]
    """The modalities behind its vector; empty when its score was learned from prescriptions alone."""
    accepted: tuple[str, ...]
    """Interactions with other recommended medications that were accepted."""


class Avoided(NamedTuple):
    """A medication left out because of its interactions, though its probability was above the threshold."""

    code: str
    name: str
    probability: float
    because_of: tuple[str, ...]


class Reason(NamedTuple):
    """What the graph says a recommended medication is given for, set beside the patient's problems."""

    code: str
    """The medication."""
    problem: str
    """The code of the nearest problem; empty where none is near what the medication's drugs treat."""
    title: str
    drug: str
    disease: str
    """A disease that the graph says the drug treats."""
    likeness: float
    """Cosine of the problem's title and the disease's name; 1 where a source gives the problem's code or one above."""
    sources: str = ""
    """Who says that the drug treats the disease."""

    @property
    def path(self) -> str:
        """The way from the drug to the problem, or that there is none."""
        if not self.problem:
            return NO_INDICATION
        said = f" [{self.sources}]" if self.sources else ""
        return f"{self.drug} treats {self.disease}{said}, as {self.problem} ({self.title}), {self.likeness:.2f}"


NO_INDICATION = "no known indication among the patient's problems"


class LikelySet(NamedTuple):
    """The medications that hold on average this share of what patients like those of the cohort are given."""

    coverage: float
    codes: tuple[str, ...]
    """The most probable first."""


@dataclass(frozen=True)
class Coverage:
    """How much of a patient the recommender understands: distinct codes that its task reads, over all visits."""

    understood: int
    given: int
    last_understood: int
    """Of the visit asked for, where the task reads any of its own codes."""
    last_given: int
    not_understood: Mapping[str, list[str]]
    """By kind, as written: no code of its system, not in the training patients, or without a system."""
    not_used: Mapping[str, list[str]]
    """By kind: codes that the task does not read, such as the diagnoses of the visit asked for at admission."""
    read_as: Mapping[str, str] = field(default_factory=dict)
    """Codes that training patients did not have, each with the known code of its category that stands in for it."""

    @property
    def share(self) -> float:
        """Understood over given; 0 where nothing was given."""
        return self.understood / self.given if self.given else 0.0

    def as_json(self) -> dict[str, Any]:
        """The coverage as plain values."""
        return {"understood": self.understood, "given": self.given, "share": round(self.share, 4),
                "visit_asked_for": {"understood": self.last_understood, "given": self.last_given},
                "not_understood": dict(self.not_understood), "not_used": dict(self.not_used),
                "read_as": dict(self.read_as)}

    def refusal(self, least: float) -> str | None:
        """Why there is no answer at this least coverage; None where there is one."""
        if self.understood and self.share >= least:
            return None
        if not self.given:
            return "nothing is known of the patient that this recommender's task reads: there is no recommendation"
        return (f"{self.understood} of the patient's {self.given} codes are understood, below the least coverage of "
                f"{least:g}: there is no recommendation")


@dataclass(frozen=True)
class Answer:
    """What is recommended for the last visit, what was avoided, and how much of the patient it rests on."""

    recommended: list[Recommendation]
    avoided: list[Avoided]
    coverage: Coverage
    run: str
    alerts: list[Alert] = field(default_factory=list)
    """Interactions of what is recommended, among itself and with what was given before or is taken at home."""
    sets: list[LikelySet] = field(default_factory=list)
    """Sets of stated coverage (``recsys.experiments.conformal``); the interactions are not weighed in them."""
    indications: list[Reason] = field(default_factory=list)
    """Of every recommended medication of which the graph knows what it treats."""
    farther_than: float | None = None
    """The share of the cohort's validation visits that are nearer to its training visits than this one; None where the
    recommender does not know (``recsys.experiments.drift``)."""
    refused: str | None = None
    """Why there are no scores: too little of the patient is understood."""
    warning: str = field(default=WARNING)

    @property
    def unknown(self) -> Mapping[str, list[str]]:
        """Codes of the request that had no influence because they were not understood, by kind."""
        return self.coverage.not_understood

    def as_json(self) -> dict[str, Any]:
        """The answer as plain values; without scores where it was refused."""
        head = {"warning": self.warning, "run": self.run, "coverage": self.coverage.as_json()}
        if self.refused is not None:
            return head | {"refused": self.refused}
        return head | {"recommended": [item._asdict() for item in self.recommended],
                       "avoided": [item._asdict() for item in self.avoided],
                       "alerts": [alert.as_json() for alert in self.alerts],
                       "indications": [{**one._asdict(), "path": one.path} for one in self.indications],
                       "drift": {"farther_than": self.farther_than},
                       "sets": [{"coverage": one.coverage, "medications": list(one.codes)} for one in self.sets]}


class RecommenderService:
    """A trained recommender, ready to answer; one thread, no database, no disk."""

    def __init__(self, trained: Trained) -> None:
        sizes = trained.recommender.sizes._asdict()
        if any(len(trained.vocabularies.get(kind, ())) != size for kind, size in sizes.items()):
            raise CheckpointError("the recommender's vocabularies are not those that it was trained with",
                                  hint="train it again with this version")
        self.trained = trained
        self.knowledge = trained.recommender.knowledge
        self.vocabularies = {kind: Vocabulary(tuple(trained.vocabularies[kind])) for kind in KINDS}
        self.task = TASKS[str(trained.meta.get("task", "stay"))]
        codes = self.vocabularies["diagnosis"].codes if self.task.door else ()
        heads = tuple(door_code(name, "") for name in KNOWN_AT_THE_DOOR)
        self._levels = {code.lower(): number for number, code in enumerate(codes) if code.startswith(heads)}
        self._read_before: dict[tuple[str, str], tuple[int, ...]] = {}
        self._read_as: dict[str, str] = {}
        self._ingredients: dict[str, tuple[str, ...]] = {}
        self._below: dict[str, dict[str, list[int]]] = {}
        self._modalities = _modalities_used(trained.recommender)
        self._interacting = [frozenset(np.flatnonzero(row).tolist()) for row in self.knowledge.interactions.matrix]

    @classmethod
    def open(cls, settings: Settings, run: str = "") -> RecommenderService:
        """The service of a run, the latest when ``run`` is empty."""
        from recsys.experiments.run_folders import load_run

        return cls(load_run(settings, run))

    def numbers(self, kind: str, text: str) -> tuple[int, ...]:
        """The vocabulary's numbers of a code as written, at the door of ``name: value``; empty if not understood."""
        if (kind, text) not in self._read_before:
            if len(self._read_before) >= REMEMBERED:
                self._read_before.clear()
                self._read_as.clear()
            self._read_before[kind, text] = self._numbers(kind, text)
        return self._read_before[kind, text]

    def _numbers(self, kind: str, text: str) -> tuple[int, ...]:
        if kind == DOOR:
            return self._door(*text.split(": ", 1))
        known = self.vocabularies[kind]
        code = normalised(text, kind)
        for form in (code, text):
            if form is not None and form in known:
                return (known.index(form),)
        if kind == "medication":
            return self._medications(text)
        number = None if code is None or title(code) is None else self._relative(kind, code)
        if number is None:
            return ()
        self._read_as[text] = known.codes[number]
        return (number,)

    def _relative(self, kind: str, code: str) -> int | None:
        """The known code nearest to one that training patients did not have: below the nearest of its categories.

        Of several the one with the longest common beginning. None above the category of three characters.
        """
        if kind not in self._below:
            below: dict[str, list[int]] = {}
            for number, known in enumerate(self.vocabularies[kind].codes):
                for node in categories(known):
                    below.setdefault(node, []).append(number)
            self._below[kind] = below
        codes = self.vocabularies[kind].codes
        for node in categories(code):
            if node in self._below[kind]:
                return max(self._below[kind][node], key=lambda number: (common_beginning(codes[number], code), -number))
        return None

    def _medications(self, text: str) -> tuple[int, ...]:
        """The numbers of the medications that a finer ATC code, another code or a drug's name stands for."""
        code, known = normalised(text, "medication") or "", self.vocabularies["medication"]
        if code.startswith("ATC:"):
            above = tuple(known.index(code[:end]) for end in (9, 8, 7, 5) if code[:end] in known and len(code) > end)
            if above:
                return above
        labels = self.orders.label(order_of(text)).labels if self.orders is not None else ()
        return tuple(known.index(label) for label in labels if label in known)

    @cached_property
    def orders(self) -> MedicationMap | None:
        """The map from orders to medications that is stored with the recommender."""
        return None if self.trained.orders is None else unpack(self.trained.orders)

    def meaning(self, kind: str, text: str) -> str:
        """What a code as written means in words; empty where no table says it, and for codes that are words."""
        if kind == "medication":
            return ", ".join(self.knowledge.names[number] for number in self.numbers(kind, text))
        code = normalised(text, kind) or ""
        return "" if kind == DOOR or code.partition(":")[0] in PATH_SYSTEMS else title(code) or ""

    def histories(self, patients: Sequence[Patient]) -> tuple[Histories, list[Coverage]]:
        """The patients as a recommender takes them, and how much of each is understood."""
        kinds = (*KINDS, DOOR) if self.task.door else KINDS
        flat: dict[str, list[list[int]]] = {kind: [] for kind in kinds}
        coverages = []
        for patient in patients:
            read = [self._read(visit) for visit in patient.visits]
            for numbers in read:
                for kind in kinds:
                    flat[kind].append(sorted({number for found in numbers[kind].values() for number in found}))
            coverages.append(self._coverage(read))
        counts = [len(patient.visits) for patient in patients]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        codes = {kind: _ragged(rows) for kind, rows in flat.items()}
        return make_histories(codes, starts, self.task, self.trained.recommender.sizes), coverages

    def _read(self, visit: Visit) -> dict[str, dict[str, tuple[int, ...]]]:
        """Kind -> what is written -> its numbers."""
        return {kind: {text: self.numbers(kind, text) for text in texts} for kind, texts in visit.by_kind().items()}

    def _door(self, name: str, value: str) -> tuple[int, ...]:
        """The number of what is known at the door, by the level's name in any case; an age in years by its band."""
        level = age_band(value) if name == "age" else value
        if name == "sex":
            level = {"f": "female", "m": "male"}.get(value.lower(), value)
        number = self._levels.get(door_code(name, level).lower())
        return () if number is None else (number,)

    def _coverage(self, read: Sequence[Mapping[str, Mapping[str, tuple[int, ...]]]]) -> Coverage:
        given: dict[tuple[str, str], bool] = {}
        last: dict[tuple[str, str], bool] = {}
        aside: dict[str, dict[str, None]] = {}
        for place, visit in enumerate(read, 1):
            for kind, codes in visit.items():
                used = (self.task.door if kind == DOOR else place < len(read) or not self.task.lag.get(kind))
                for text, numbers in codes.items():
                    if not used:
                        aside.setdefault(kind, {})[text] = None
                        continue
                    given[kind, text] = bool(numbers)
                    if place == len(read):
                        last[kind, text] = bool(numbers)
        missing: dict[str, list[str]] = {}
        read_as = {text: self._read_as[text] for (kind, text), understood in given.items()
                   if understood and kind != "medication" and text in self._read_as}
        for (kind, text), understood in given.items():
            if not understood:
                missing.setdefault(kind, []).append(text)
        return Coverage(sum(given.values()), len(given), sum(last.values()), len(last), missing,
                        {kind: list(texts) for kind, texts in aside.items()}, read_as)

    def probabilities(self, visits: Histories) -> np.ndarray:
        """float32[P, K]: the raw probabilities at each patient's last visit."""
        return self.trained.recommender.predict_proba(visits)[visits.starts[1:] - 1]

    def recommend(self, patient: Patient, *, min_coverage: float = MIN_COVERAGE) -> Answer:
        """The answer for one patient."""
        return self.recommend_many([patient], min_coverage=min_coverage)[0]

    def recommend_many(self, patients: Sequence[Patient], *, min_coverage: float = MIN_COVERAGE) -> list[Answer]:
        """The answers for several patients in one pass; refused where less than ``min_coverage`` is understood."""
        visits, coverages = self.histories(patients)
        raw = self.probabilities(visits)
        matrix = self.knowledge.interactions.matrix
        chosen = select(raw, self.trained.decision, matrix)
        calibrated = self.trained.platt.apply(raw)
        above = raw >= thresholds(raw, self.trained.decision)
        run = str(self.trained.meta.get("run", ""))
        farther = None if self.drift is None else self.drift.farther_than(visits, visits.starts[1:] - 1)
        answers = []
        for row, coverage in enumerate(coverages):
            refused = coverage.refusal(min_coverage)
            if refused:
                answers.append(Answer([], [], coverage, run, refused=refused))
                continue
            answer = self._answer(visits, row, chosen[row], above[row], calibrated[row], coverage, run)
            answers.append(replace(answer, alerts=self._alerts(answer, patients[row]), sets=self._sets(raw[row]),
                                   indications=self._reasons(answer, visits, row),
                                   farther_than=None if farther is None else float(farther[row])))
        return answers

    def _reasons(self, answer: Answer, visits: Histories, patient: int) -> list[Reason]:
        """Why the graph would give each recommended medication, or that it would not."""
        if self.indications is None:
            return []
        first, last = visits.diagnosis.indptr[visits.starts[patient:patient + 2]]
        held = {self.vocabularies["diagnosis"].codes[i] for i in visits.diagnosis.values[first:last].tolist()}
        reasons = []
        for item in answer.recommended:
            if item.code in self.indications.treating:
                near = self.indications.nearest(item.code, held)
                reasons.append(Reason(item.code, "", "", "", "", 0.0) if near is None else
                               Reason(item.code, near.problem, title(near.problem) or "", near.drug, near.disease,
                                      near.likeness, near.sources))
        return reasons

    @cached_property
    def drift(self) -> Drift | None:
        """What a request is compared with; None where too few visits were at hand, or an older version trained it."""
        stored = self.trained.meta.get("drift")
        return None if stored is None else Drift.from_json(stored)

    @cached_property
    def indications(self) -> Indications | None:
        """What the graph says the medications treat, as far as the recommender's diagnoses are near it."""
        stored = self.trained.meta.get("indications")
        return None if stored is None else Indications.from_json(stored)

    def _sets(self, probability: np.ndarray) -> list[LikelySet]:
        """The sets of stated coverage at one visit's raw probabilities."""
        order = np.argsort(-probability, kind="stable")
        codes, found = self.knowledge.medications, []
        for coverage, threshold in self.trained.meta.get("sets", ()):
            size = int((probability >= threshold).sum())
            found.append(LikelySet(float(coverage), tuple(codes[m] for m in order[:size].tolist())))
        return found

    def ingredients(self, text: str) -> tuple[str, ...]:
        """The keys of the ingredients of a medication as written; all those of a class."""
        found = self._ingredients.get(text)
        if found is None:
            found = self._find_ingredients(text)
            if len(self._ingredients) >= REMEMBERED:
                self._ingredients.clear()
            self._ingredients[text] = found
        return found

    def _find_ingredients(self, text: str) -> tuple[str, ...]:
        known, vocabulary = self.knowledge.ingredients, self.vocabularies["medication"]
        if text not in vocabulary and normalised(text, "medication") not in vocabulary and self.orders is not None:
            resolved = self.orders.resolver.resolve(order_of(text))
            if resolved.ingredients:
                return resolved.keys
        keys = (key for number in self.numbers("medication", text) for key in (known[number] if known else ()))
        return tuple(dict.fromkeys(keys))

    def _alerts(self, answer: Answer, patient: Patient) -> list[Alert]:
        if not self.knowledge.drug_interactions.statements:
            return []
        given = dict.fromkeys(text for visit in patient.visits[::-1] for text in visit.medication)
        beside = [Taken(text, where, self.ingredients(text)) for where, texts in
                  ((AT_HOME, patient.visits[-1].home), (GIVEN, given)) for text in texts]
        recommended = {item.code: self.ingredients(item.code) for item in answer.recommended}
        return alerts(recommended, beside, self.knowledge.drug_interactions)

    def _answer(self, visits: Histories, patient: int, chosen: np.ndarray, above: np.ndarray, probability: np.ndarray,
                coverage: Coverage, run: str) -> Answer:
        codes, names = self.knowledge.medications, self.knowledge.names
        rows = np.flatnonzero(chosen)
        order = rows[np.argsort(-probability[rows], kind="stable")].tolist()
        taken, score = set(order), probability.tolist()
        first, last = visits.medication.indptr[visits.starts[patient:patient + 2]]
        before = visits.medication.values[first:last].tolist()
        recommended = [Recommendation(codes[m], names[m], score[m], before.count(m), self._modalities[m],
                                      self._among(taken, m)) for m in order]
        avoided = [Avoided(codes[m], names[m], score[m], self._among(taken, m))
                   for m in np.flatnonzero(above & ~chosen).tolist()]
        avoided.sort(key=lambda item: -item.probability)
        return Answer(recommended, avoided, coverage, run)

    def _among(self, taken: set[int], medication: int) -> tuple[str, ...]:
        """The codes among ``taken`` that interact with the medication, in the order of the vocabulary."""
        found = taken & self._interacting[medication]
        return tuple(self.knowledge.medications[other] for other in sorted(found)) if found else ()


def _modalities_used(recommender: Recommender) -> list[tuple[str, ...]]:
    """What each medication's score rests on besides prescriptions; a recommender that reads no vectors uses none."""
    knowledge, network = recommender.knowledge, getattr(recommender, "network", None)
    reads_vectors, reads_molecules = recommender.needs_evidence, False
    if network is not None:
        from recsys.recommenders.layers import DrugTable
        from recsys.recommenders.molecules import MedicationEncoder

        reads_vectors = reads_vectors or isinstance(getattr(network, "drugs", None), DrugTable)
        reads_molecules = any(isinstance(part, MedicationEncoder) for part in network.modules())
    if reads_vectors:
        return [tuple(name for name, has in zip(knowledge.modalities, row, strict=True) if has)
                for row in knowledge.rests_on]
    if reads_molecules:
        return [("molecule",) if smiles else () for smiles in knowledge.smiles or ((),) * len(knowledge.medications)]
    return [()] * len(knowledge.medications)


def common_beginning(first: str, second: str) -> int:
    """How many characters two texts begin with in common."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def age_band(value: str) -> str:
    """The band of ten years that cohorts have for an age in years; another text as it is."""
    found = re.fullmatch(r"(\d{1,3})(\.\d+)?", value, re.ASCII)
    if not found:
        return value
    years = int(found[1])
    return "90+" if years >= 90 else f"{years // 10 * 10:02d}-{years // 10 * 10 + 9:02d}"


def _ragged(lists: Sequence[Sequence[int]]) -> Ragged:
    """As Ragged.from_lists, for rows that are distinct already; one patient must not cost a sort."""
    indptr = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(row) for row in lists], out=indptr[1:])
    return Ragged(indptr, np.array([code for row in lists for code in row], np.int32))
