"""Generator B: guidelines and episodes, a stepwise therapy in a Markov process.

Design, on purpose unlike A's. Every disease is a chain of stages (absent, controlled, worse, crisis); its onset is made
likelier by related diseases. A guideline lists, for each disease, lines of therapy: a patient whose disease worsens is
moved up a line, never comes back down, and does not tolerate some lines at all, so what is given depends on the whole
history and not on the last visit. A rule checks every new class against what has been chosen already and takes another
line when they interact (``vigilance``), so medications depend on one another. An episode (one of a dozen kinds of
admission, chosen by the most severe disease) brings its order set of medications and its procedures. Diagnoses are
billing codes of a disease's own family, another half of it for each severity, plus unspecific codes that say nothing.

No model is handed the answer: there is neither an additive score nor a carry-over term; stages, lines and episodes are
hidden. What knowledge about drugs can add, on purpose: the lines of a guideline are drawn within a neighbourhood of the
real ATC tree (``kinship``), so classes that are near one another are used for the same diseases, and most medications
outside every rule stand in for a relative in that tree (``relatives``), so rare classes go where their relatives go.
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

    diseases: int = 48
    lines: int = 5  # lines of therapy of a guideline
    base: int = 3  # classes given to a controlled disease
    onset: float = 5.0  # expected number of diseases at the first visit
    progress: float = 0.25  # a disease worsens between two visits
    recover: float = 0.35  # a worse disease is controlled again
    new: float = 0.25  # expected number of new diseases a visit
    tried: float = 0.4  # the first line was tried before the first visit
    adherence: float = 0.93  # a guideline is followed
    tolerance: float = 0.62  # a patient tolerates a line at all
    vigilance: float = 0.3  # an interaction is seen and avoided
    episodes: int = 12
    order_set: int = 11  # medications of an episode's order set
    ordered: float = 0.77  # one of them is given
    custom: float = 0.82  # how much more some classes are liked than others everywhere
    stray: float = 1.2  # expected number of medications outside every rule
    relatives: float = 0.7  # such a medication is a relative, in the ATC tree, of one that is given
    kinship: float = 1.5
    caution: float = -0.24  # above 0 guidelines and order sets prefer classes with few interactions
    codes: float = 2.05  # expected diagnosis codes of a disease
    vague: float = 2.0  # expected unspecific diagnosis codes
    procedures: float = 5.0


@dataclass(frozen=True)
class World:
    """The guidelines, order sets and code families of a cohort, drawn once from the seed."""

    dials: Dials
    interacts: NDArray[np.bool_]  # [K, K]
    prevalence: NDArray[np.float64]  # [G] diseases
    related: NDArray[np.float64]  # [G, G] odds that row brings column about
    lines: NDArray[np.int64]  # [G, lines]
    order_sets: NDArray[np.int64]  # [episodes, order_set]
    episode_of: NDArray[np.int64]  # [G, 2] the usual episode of a disease, mild and severe
    family: NDArray[np.int64]  # [G, 2, n] diagnosis codes of a mild and of a severe stage
    theatre: NDArray[np.int64]  # [episodes, n] procedure codes
    vague: NDArray[np.int64]  # unspecific diagnosis codes
    relatives: NDArray[np.float64]  # [K, K] cumulative odds that the column stands in for the row


def make_world(seed: int, shape: Shape, dials: Dials) -> World:
    """The rules: the same for every cohort of this seed, whatever its number of patients."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 10]))
    classes = frequent_classes(shape.medications)
    near, K, G = relatedness(classes), shape.medications, dials.diseases
    home = rng.permutation(np.resize(rng.permutation(K), G))
    interacts = class_interactions(classes)
    liking = rng.normal(size=K) * dials.custom - dials.caution * interacts.sum(1) / interacts.sum(1).std()
    odds = dials.kinship * near[home] + liking + rng.gumbel(size=(G, K))
    sets = np.argsort(-(0.6 * near[rng.choice(K, dials.episodes)] + liking + rng.gumbel(size=(dials.episodes, K))), 1)
    nearness = np.exp(2.0 * near) * ~np.eye(K, dtype=bool)
    specific = rng.permutation(shape.diagnoses)
    width = max((shape.diagnoses * 9 // 10) // (2 * G), 4)
    theatre = rng.permutation(np.resize(rng.permutation(shape.procedures), dials.episodes * 160))
    return World(
        dials=dials,
        interacts=interacts,
        prevalence=rng.permutation(zipf(G, 0.6, 3.0)),
        related=rng.gamma(0.15, 1.0, (G, G)),
        lines=np.argsort(-odds, axis=1)[:, : dials.lines],
        order_sets=sets[:, : dials.order_set],
        episode_of=rng.integers(dials.episodes, size=(G, 2)),
        family=np.resize(specific[: 2 * G * width], (G, 2, width)),
        theatre=theatre.reshape(dials.episodes, 160),
        vague=specific[-max(shape.diagnoses // 10, 8) :],
        relatives=np.cumsum(nearness / nearness.sum(1, keepdims=True), axis=1),
    )


class _Course:
    """The diseases of one block of patients as they go from visit to visit."""

    def __init__(self, rng: np.random.Generator, world: World, count: int) -> None:
        dials = world.dials
        self.rng, self.world = rng, world
        self.stage = (rng.random((count, dials.diseases)) < np.minimum(dials.onset * world.prevalence, 0.8)).astype(int)
        self.stage[np.arange(count), rng.choice(dials.diseases, count, p=world.prevalence)] = 1
        self.stage += (self.stage > 0) & (rng.random(self.stage.shape) < dials.progress)
        tried = rng.random(self.stage.shape) < dials.tried
        self.line = tried * (dials.lines - dials.base > 1) + (self.stage > 1)
        self.follows = rng.random((*self.stage.shape, dials.lines)) < dials.tolerance

    def step(self, alive: NDArray[np.int64]) -> None:
        """Move the given patients on to their next visit."""
        rng, dials, stage = self.rng, self.world.dials, self.stage[alive]
        present = stage > 0
        pull = self.world.prevalence * (1 + present @ self.world.related)
        onset = ~present & (rng.random(stage.shape) < dials.new * pull / pull.sum(1, keepdims=True))
        worse = present & (stage < 3) & (rng.random(stage.shape) < dials.progress)
        better = (stage > 1) & ~worse & (rng.random(stage.shape) < dials.recover)
        self.stage[alive] = stage + onset + worse - better
        line = self.line[alive] + worse
        self.line[alive] = np.minimum(line, dials.lines - dials.base)

    def episode(self, alive: NDArray[np.int64]) -> NDArray[np.int64]:
        """The kind of admission: that of the most severe disease, ties broken at random."""
        stage = self.stage[alive]
        worst = (stage + 0.9 * self.rng.random(stage.shape)).argmax(1)
        severe = (stage[np.arange(len(alive)), worst] > 1).astype(int)
        return self.world.episode_of[worst, severe]

    def treat(self, alive: NDArray[np.int64], episode: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The medications of a visit, bool [patients, K]: order set, then guideline by guideline, then strays."""
        world, dials, rng = self.world, self.world.dials, self.rng
        given = np.zeros((len(alive), len(world.interacts)), dtype=bool)
        ordered = rng.random((len(alive), world.order_sets.shape[1])) < dials.ordered
        rows, columns = np.nonzero(ordered)
        given[rows, world.order_sets[episode[rows], columns]] = True
        for disease in rng.permutation(dials.diseases):
            here = np.flatnonzero(self.stage[alive, disease] > 0)
            for offset in range(dials.base):
                line = self.line[alive[here], disease] + offset
                wanted = world.lines[disease, line]
                conflict = (given[here] & world.interacts[wanted]).any(1) & (rng.random(len(here)) < dials.vigilance)
                wanted = np.where(conflict, world.lines[disease, (line + dials.base) % dials.lines], wanted)
                kept = self.follows[alive[here], disease, line] & (rng.random(len(here)) < dials.adherence)
                given[here[kept], wanted[kept]] = True
        return self._substitute(given)

    def _substitute(self, given: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The medications with some more: mostly a relative of one that is given, else any class at all."""
        dials, rng = self.world.dials, self.rng
        rows = np.repeat(np.arange(len(given)), rng.poisson(dials.stray, len(given)))
        members, classes = np.nonzero(given)
        counts = np.bincount(members, minlength=len(given))
        first = np.cumsum(counts) - counts
        known = counts[rows] > 0
        drawn = (rng.random(len(rows)) * counts[rows]).astype(np.int64)
        origin = classes[np.minimum(first[rows] + drawn, max(len(classes) - 1, 0))]
        related = draw_choices(rng, self.world.relatives, origin)
        anything = rng.integers(given.shape[1], size=len(rows))
        given[rows, np.where(known & (rng.random(len(rows)) < dials.relatives), related, anything)] = True
        return given

    def diagnose(self, alive: NDArray[np.int64]) -> Pairs:
        """The diagnosis codes of a visit, as (row, code) pairs."""
        world, dials, rng = self.world, self.world.dials, self.rng
        members, diseases = np.nonzero(self.stage[alive])
        counts = 1 + rng.poisson(dials.codes - 1, len(members))
        rows, diseases = np.repeat(members, counts), np.repeat(diseases, counts)
        severe = (self.stage[alive[rows], diseases] > 1).astype(int)
        width = world.family.shape[2]
        codes = world.family[diseases, severe, rng.choice(width, len(rows), p=zipf(width, 1.0, 1.5))]
        vague = np.repeat(np.arange(len(alive)), rng.poisson(dials.vague, len(alive)))
        return np.concatenate((rows, vague)), np.concatenate((codes, rng.choice(world.vague, len(vague))))

    def operate(self, episode: NDArray[np.int64]) -> Pairs:
        """The procedure codes of a visit, as (row, code) pairs."""
        rows = np.repeat(np.arange(len(episode)), 1 + self.rng.poisson(self.world.dials.procedures - 1, len(episode)))
        width = self.world.theatre.shape[1]
        return rows, self.world.theatre[episode[rows], self.rng.choice(width, len(rows), p=zipf(width, 1.0))]


def _draw(rng: np.random.Generator, counts: NDArray[np.int64], world: World) -> dict[str, Pairs]:
    course = _Course(rng, world, len(counts))
    pieces: dict[str, list[Pairs]] = {"diagnosis": [], "procedure": [], "medication": []}
    for number, alive, visits in batches_of_visits(counts):
        if number:
            course.step(alive)
        episode = course.episode(alive)
        found = {
            "medication": np.nonzero(course.treat(alive, episode)),
            "diagnosis": course.diagnose(alive),
            "procedure": course.operate(episode),
        }
        for kind, (rows, codes) in found.items():
            pieces[kind].append((visits[rows], codes))
    return {
        kind: (np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))
        for kind, parts in pieces.items()
    }


def generate(name: str = "cohort-B", shape: Shape | None = None, seed: int = 11, dials: Dials | None = None) -> Cohort:
    """A synthetic cohort of design B; the same seed and shape give the same cohort."""
    shape, dials = shape or Shape(), dials or Dials()
    world = make_world(seed, shape, dials)
    return assemble(name, shape, seed, lambda rng, counts: _draw(rng, counts, world), "guidelines")
