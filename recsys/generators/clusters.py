"""Generator A: latent disease clusters with habits and carry-over.

Design. ``conditions`` latent diseases with Zipf prevalence; a patient has a chronic set that comes back at most visits
and acute ones that do not. An active condition emits diagnoses and procedures from its own Zipf-ordered share of the
vocabularies (mixed with a global Zipf background, so that one code belongs to several conditions) and opens
treatment slots. A slot fires with its own probability, some only when a second condition is active too, and is filled
by ONE of several alternative classes: the patient's own habit most of the time. Added to that are a hospital background
with a patient-wise intensity, and a carry-over of the earlier visit's medications and diagnoses.

No model is handed the answer: conditions are never observed; slots are conjunctions and exclusive choices, which no
linear or additive model can express; a habit shows only over several visits, so the last one alone does not do.

What knowledge about drugs can add, on purpose: the alternatives of a slot are drawn with odds that grow with nearness
in the ATC tree to the slot's first choice (``kinship``), so classes of one neighbourhood share latent indications. A
drug table that knows nothing of that loses little on common classes, more on rare ones. ``caution`` weighs a class by
its number of interactions, which sets the ground-truth DDI rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.cohorts.cohort import Cohort
from recsys.generators.classes import class_interactions, frequent_classes, relatedness
from recsys.generators.population import Pairs, Shape, assemble, batches_of_visits, draw_choices, zipf


@dataclass(frozen=True)
class Dials:
    """The constants of the design, calibrated on the marks that ``benchmarks/bench_generators.py`` prints."""

    conditions: int = 25
    chronic: float = 1.4  # expected number of chronic conditions
    acute: float = 0.4  # mean number of acute conditions of a visit
    relapse: float = 0.9  # a chronic condition is active at a visit
    slots: int = 5  # treatment slots of a condition
    fire: float = 0.72  # mean probability that an open slot is filled
    joint: float = 0.25  # share of the slots that need a second condition
    alternatives: int = 4
    spread: float = 0.3  # odds of each further alternative
    habit: float = 0.75  # a slot is filled as the patient's habit has it
    kinship: float = 1.2
    background: float = 5.85  # mean background medications of a visit
    staples: float = 4.0  # Zipf exponent of the background
    carry: float = 0.37  # an earlier medication is given again
    caution: float = -0.2  # above 0 classes with few interactions are preferred
    diagnoses: float = 11.8
    procedures: float = 4.1
    focus: float = 0.01  # gamma shape of the emission: the smaller, the fewer codes belong to a condition
    noise: float = 0.17  # share of diagnoses and procedures from the global background
    repeat: float = 0.25  # share of diagnoses carried over


@dataclass(frozen=True)
class World:
    """Everything that is the same for all patients of a cohort, drawn once from the seed."""

    dials: Dials
    prevalence: NDArray[np.float64]  # [C]
    emission: dict[str, NDArray[np.float64]]  # kind -> cumulative [C + 1, codes]; the last row is the background
    slot_condition: NDArray[np.int64]  # [S]
    slot_partner: NDArray[np.int64]  # [S], -1 where none is needed
    slot_fire: NDArray[np.float64]  # [S]
    slot_classes: NDArray[np.int64]  # [S, alternatives]
    background: NDArray[np.float64]  # [K]


def _emission(rng: np.random.Generator, conditions: int, codes: int, focus: float) -> NDArray[np.float64]:
    """Cumulative code probabilities: each condition favours its own tenth of the codes, frequent codes are shared."""
    popularity = zipf(codes, 0.9)
    own = rng.gamma(focus, 1.0, (conditions, codes)) + 1e-9
    table = np.vstack((own * popularity**0.5, popularity))
    table /= table.sum(1, keepdims=True)
    cumulative: NDArray[np.float64] = np.cumsum(table, axis=1)
    return cumulative


def make_world(seed: int, shape: Shape, dials: Dials) -> World:
    """The latent structure: the same for every cohort of this seed, whatever its number of patients."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    classes = frequent_classes(shape.medications)
    degree = class_interactions(classes).sum(1)
    near = relatedness(classes)
    C, K, S = dials.conditions, shape.medications, dials.conditions * dials.slots
    first = rng.choice(K, S, p=_softmax(-dials.caution * 0.3 * degree / degree.std() + 0.8 * rng.normal(size=K)))
    odds = dials.kinship * near[first] + 0.7 * rng.gumbel(size=(S, K))
    odds[np.arange(S), first] = np.inf
    ranked = np.argsort(-odds, axis=1)[:, : dials.alternatives]
    order = np.argsort(dials.caution * degree / degree.std() + rng.gumbel(size=K))
    background = np.empty(K)
    background[order] = zipf(K, dials.staples, 6.0)
    return World(
        dials=dials,
        prevalence=rng.permutation(zipf(C, 0.7, 3.0)),
        emission={
            "diagnosis": _emission(rng, C, shape.diagnoses, dials.focus),
            "procedure": _emission(rng, C, shape.procedures, dials.focus),
        },
        slot_condition=np.repeat(np.arange(C), dials.slots),
        slot_partner=np.where(rng.random(S) < dials.joint, rng.integers(C, size=S), -1),
        slot_fire=rng.beta(6 * dials.fire, 6 * (1 - dials.fire), S),
        slot_classes=ranked.astype(np.int64),
        background=_capped(background, dials.background),
    )


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def _capped(weights: NDArray[np.float64], total: float) -> NDArray[np.float64]:
    """Probabilities 1 - exp(-s·w) that sum to ``total``."""
    low, high = 0.0, 1e4
    for _ in range(60):
        scale = (low + high) / 2
        low, high = (scale, high) if (1 - np.exp(-scale * weights)).sum() < total else (low, scale)
    return 1 - np.exp(-scale * weights)


class _Patients:
    """The habits of one block of patients: fixed over their visits."""

    def __init__(self, rng: np.random.Generator, world: World, count: int) -> None:
        dials = world.dials
        self.world, self.rng = world, rng
        self.chronic = rng.random((count, dials.conditions)) < np.minimum(dials.chronic * world.prevalence, 0.9)
        shape = world.slot_classes.shape
        self.preferred = self._alternatives((count, shape[0]))
        self.intensity = rng.gamma(6.0, 1 / 6.0, (count, 1))

    def _alternatives(self, size: tuple[int, int]) -> NDArray[np.int64]:
        """Alternative numbers with geometric odds: the first choice is the commonest."""
        drawn = np.floor(np.log(self.rng.random(size)) / np.log(self.world.dials.spread)).astype(np.int64)
        return np.minimum(drawn, self.world.slot_classes.shape[1] - 1)

    def conditions(self, alive: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The active conditions of a visit, bool [patients, C], at least one each."""
        dials, rng = self.world.dials, self.rng
        size = (len(alive), dials.conditions)
        active = self.chronic[alive] & (rng.random(size) < dials.relapse)
        active |= rng.random(size) < np.minimum(dials.acute * self.world.prevalence, 0.9)
        none = np.flatnonzero(~active.any(1))
        active[none, rng.choice(dials.conditions, len(none), p=self.world.prevalence)] = True
        return active

    def medications(
        self, alive: NDArray[np.int64], active: NDArray[np.bool_], before: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """The medications of a visit, bool [patients, K], from its conditions and the visit before."""
        world, dials, rng = self.world, self.world.dials, self.rng
        given = rng.random(before.shape) < 1 - (1 - world.background) ** self.intensity[alive]
        partner = (world.slot_partner < 0) | active[:, world.slot_partner]
        open_slot = active[:, world.slot_condition] & partner
        fired = open_slot & (rng.random(open_slot.shape) < world.slot_fire)
        rows, slots = np.nonzero(fired)
        fresh = self._alternatives((len(rows), 1))[:, 0]
        by_habit = rng.random(len(rows)) < dials.habit
        choice = np.where(by_habit, self.preferred[alive[rows], slots], fresh)
        given[rows, world.slot_classes[slots, choice]] = True
        given |= before & (rng.random(before.shape) < dials.carry)
        return given


def _codes(patients: _Patients, kind: str, mean: float, active: NDArray[np.bool_]) -> Pairs:
    """The codes that a visit's conditions emit, as (row, code) pairs."""
    rng, world = patients.rng, patients.world
    counts = 1 + rng.poisson(np.maximum(mean - 1, 0) * (0.5 + 0.5 * active.sum(1) / max(active.sum(1).mean(), 1)))
    rows = np.repeat(np.arange(len(active)), counts)
    members, conditions = np.nonzero(active)
    first = np.searchsorted(members, np.arange(len(active)))
    source = conditions[first[rows] + (rng.random(len(rows)) * active.sum(1)[rows]).astype(np.int64)]
    source[rng.random(len(rows)) < world.dials.noise] = world.dials.conditions
    return rows, draw_choices(rng, world.emission[kind], source)


def _draw(rng: np.random.Generator, counts: NDArray[np.int64], world: World) -> dict[str, Pairs]:
    patients = _Patients(rng, world, len(counts))
    given = np.zeros((len(counts), len(world.background)), dtype=bool)
    noted: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64))
    pieces: dict[str, list[Pairs]] = {"diagnosis": [], "procedure": [], "medication": []}
    dials = world.dials
    for _, alive, visits in batches_of_visits(counts):
        active = patients.conditions(alive)
        given[alive] = patients.medications(alive, active, given[alive])
        rows, classes = np.nonzero(given[alive])
        pieces["medication"].append((visits[rows], classes))
        rows, codes = _codes(patients, "diagnosis", dials.diagnoses * (1 - dials.repeat / 2), active)
        row_of = np.full(len(counts), -1)
        row_of[alive] = np.arange(len(alive))
        again = (rng.random(len(noted[0])) < dials.repeat) & (row_of[noted[0]] >= 0)
        rows = np.concatenate((rows, row_of[noted[0][again]]))
        codes = np.concatenate((codes, noted[1][again]))
        noted = (alive[rows], codes)
        pieces["diagnosis"].append((visits[rows], codes))
        rows, codes = _codes(patients, "procedure", dials.procedures, active)
        pieces["procedure"].append((visits[rows], codes))
    return {kind: _joined(parts) for kind, parts in pieces.items()}


def _joined(parts: list[Pairs]) -> Pairs:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def generate(name: str = "cohort-A", shape: Shape | None = None, seed: int = 7, dials: Dials | None = None) -> Cohort:
    """A synthetic cohort of design A; the same seed and shape give the same cohort."""
    shape, dials = shape or Shape(), dials or Dials()
    world = make_world(seed, shape, dials)
    return assemble(name, shape, seed, lambda rng, counts: _draw(rng, counts, world), "clusters")
