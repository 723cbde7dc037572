"""Generator C: prescribing that follows the knowledge base, by a dial λ from 0 to 1.

Medications are drugs that ``mkmed.indications`` gives for diseases with ICD-10-CM codes, diagnoses are real codes at or
below those. A patient has diseases; a disease shows as one of its codes and is treated by drugs that are stated for it.
Which of them is the taste of the hospital and the habit of the patient; now and then a drug that shares a target stands
in; a drug that is contraindicated for another of the patient's diseases is mostly left out.

The dial rewires: each link of disease and drug, of disease and code, of two drugs by a target and each contraindication
is kept with probability λ, and otherwise goes to another drug or code by one permutation drawn from the seed. Every λ
has the same number of links, the same popularity and the same difficulty; at λ = 0 the knowledge base says nothing of
who is given what (the negative control), at λ = 1 all links are its own. What the links are after rewiring is the truth
that an oracle is given. Procedures say which disease a visit is for, by codes without meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError, UsageError
from recsys.cohorts.cohort import Attribute, Cohort
from recsys.generators.population import Pairs, Shape, assemble, batches_of_visits, zipf
from recsys.knowledge.codes import codes_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

DESIGN = "prescribing"
LEAST_DRUGS = 40
"""Drugs with a stated indication that the knowledge base must have."""
FAMILY = 6
"""Codes that a disease shows as, at most."""


@dataclass(frozen=True)
class Dials:
    """The constants of the design."""

    medications: int = 160
    chronic: float = 3.0  # expected number of chronic diseases
    acute: float = 1.5  # expected number of acute diseases of a visit
    relapse: float = 0.85  # a chronic disease is active at a visit
    further: float = 0.6  # expected number of drugs of a disease beyond the first
    hospitals: int = 12
    taste: float = 1.0  # standard deviation of a hospital's liking of a drug
    habit: float = 1.0  # of a patient's
    stand_in: float = 0.15  # a drug is replaced by one that shares a target
    vigilance: float = 0.8  # a contraindication is seen
    background: float = 3.0  # expected number of drugs for no disease
    carry: float = 0.3  # a drug of the visit before is given again
    noise: float = 2.0  # expected number of diagnoses of no disease
    procedures: float = 2.0


@dataclass(frozen=True)
class PrescribingFacts:
    """What the knowledge base says: C codes, G diseases, K drugs."""

    medications: tuple[str, ...]
    """``DRUG:<identity>``."""
    diagnoses: tuple[str, ...]
    """``ICD10CM:<code>``."""
    family: NDArray[np.bool_]
    """bool[G, C]: the codes at or below each disease's."""
    indicated: NDArray[np.bool_]
    """bool[G, K]."""
    contraindicated: NDArray[np.bool_]
    """bool[G, K]."""
    shared: NDArray[np.bool_]
    """bool[K, K]: two drugs share a target."""


@dataclass(frozen=True)
class World:
    """The links that prescribing follows, after rewiring."""

    dials: Dials
    prevalence: NDArray[np.float64]
    codes: NDArray[np.bool_]
    treats: NDArray[np.bool_]
    avoids: NDArray[np.bool_]
    stands_in: NDArray[np.bool_]
    background: NDArray[np.float64]
    taste: NDArray[np.float64]
    theatre: NDArray[np.int64]


def read_facts(connection: Connection, medications: int = Dials.medications) -> PrescribingFacts:
    """The drugs that are stated for most diseases, those diseases, and what else is known of both.

    Raises DataError where the knowledge base states too few indications.
    """
    from sqlalchemy import text

    from kb.names.lexicon import read_bases
    from kb.query import read as query

    everything, base = query.drugs(connection), read_bases(connection)
    identity = dict(zip(everything.ids.tolist(), everything.identities, strict=True))
    uses: dict[int, set[str]] = {}
    for one in query.indications(connection):
        uses.setdefault(base.get(one.drug_id, one.drug_id), set()).update(one.icd10)
    able = sorted((drug for drug, codes in uses.items() if codes), key=lambda drug: (-len(uses[drug]), identity[drug]))
    chosen = able[:medications]
    if len(chosen) < LEAST_DRUGS:
        raise DataError(f"the knowledge base states an indication with an ICD-10 code for {len(chosen)} drugs; "
                        f"{LEAST_DRUGS} are needed", hint="mkmed kb ingest --source corpus")
    number = {drug: k for k, drug in enumerate(chosen)}
    listed = codes_of("ICD10CM")
    stated = sorted({code for drug in chosen for code in uses[drug]})
    families = {code: [one for one in listed if one == code or one.startswith(code)][:FAMILY] for code in stated}
    diseases = [code for code in stated if families[code]]
    names = sorted({one for code in diseases for one in families[code]})
    place = {name: c for c, name in enumerate(names)}
    family = np.zeros((len(diseases), len(names)), bool)
    indicated = np.zeros((len(diseases), len(chosen)), bool)
    against = np.zeros_like(indicated)
    row = {code: g for g, code in enumerate(diseases)}
    for code in diseases:
        family[row[code], [place[one] for one in families[code]]] = True
    for drug in chosen:
        indicated[[row[code] for code in uses[drug] if code in row], number[drug]] = True
    for one in query.indications(connection, kinds=("contraindication",)):
        drug = base.get(one.drug_id, one.drug_id)
        if drug in number:
            against[[row[code] for code in one.icd10 if code in row], number[drug]] = True
    targets: dict[str, set[int]] = {}
    for found, target in connection.execute(text("SELECT DISTINCT drug_id, target FROM mkmed.drug_targets")):
        if (drug := base.get(found, found)) in number:
            targets.setdefault(target, set()).add(number[drug])
    shared = np.zeros((len(chosen), len(chosen)), bool)
    for members in targets.values():
        shared[np.ix_(sorted(members), sorted(members))] = True
    np.fill_diagonal(shared, False)
    return PrescribingFacts(tuple(f"DRUG:{identity[drug]}" for drug in chosen),
                            tuple(f"ICD10CM:{name}" for name in names), family, indicated, against & ~indicated, shared)


def rewired(links: NDArray[np.bool_], order: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The links [A, B] of which those not ``kept`` go to column ``order``[b] instead of b."""
    rows, columns = np.nonzero(links)
    out = np.zeros_like(links)
    out[rows, np.where(kept[rows, columns], columns, order[columns])] = True
    return out


def make_world(seed: int, facts: PrescribingFacts, follows: float, dials: Dials, procedures: int) -> World:
    """The links of a λ: every λ of a seed draws the same numbers, and so has the same patients but for the links."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 20]))
    diseases, drugs = facts.indicated.shape
    other_drug, other_code = rng.permutation(drugs), rng.permutation(len(facts.diagnoses))

    def kept(shape: tuple[int, ...]) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = rng.random(shape) < follows
        return mask

    shared = rewired(facts.shared, other_drug, kept((drugs, drugs)))
    return World(
        dials=dials,
        prevalence=rng.permutation(zipf(diseases, 0.8, 4.0)),
        codes=rewired(facts.family, other_code, kept(facts.family.shape)),
        treats=rewired(facts.indicated, other_drug, kept(facts.indicated.shape)),
        avoids=rewired(facts.contraindicated, other_drug, kept(facts.indicated.shape)),
        stands_in=shared & ~np.eye(drugs, dtype=bool),
        background=rng.permutation(zipf(drugs, 1.2, 4.0)),
        taste=rng.standard_normal((dials.hospitals, drugs)) * dials.taste,
        theatre=rng.integers(procedures, size=(diseases, 3)),
    )


def truth(world: World) -> NDArray[np.float32]:
    """float32[C, K]: how likely a code's diseases bring a drug about by the links, less what they keep away.

    Over the mean of the positive entries; a drug for which a disease has many rivals is brought about less.
    """
    dials = world.dials
    chance = world.treats * np.minimum((1 + dials.further) / np.maximum(world.treats.sum(1, keepdims=True), 1), 1)
    mean_in = world.stands_in / np.maximum(world.stands_in.sum(1, keepdims=True), 1)
    by_disease = (1 - dials.stand_in) * chance + dials.stand_in * chance @ mean_in - dials.vigilance * world.avoids
    shown = world.codes * (world.prevalence / np.maximum(world.codes.sum(1), 1))[:, None]
    table = (shown / np.maximum(shown.sum(0), 1e-12)).T @ by_disease
    return (table / table[table > 0].mean()).astype(np.float32)


def _draw(rng: np.random.Generator, counts: NDArray[np.int64], world: World, hospital: NDArray[np.int64],
          procedures: int) -> dict[str, Pairs]:
    dials, (diseases, drugs) = world.dials, world.treats.shape
    chronic = rng.random((len(counts), diseases)) < np.minimum(dials.chronic * world.prevalence, 0.9)
    liking = world.taste[hospital] + dials.habit * rng.standard_normal((len(counts), drugs))
    given = np.zeros((len(counts), drugs), bool)
    families = [np.flatnonzero(row) for row in world.codes]
    pieces: dict[str, list[Pairs]] = {"diagnosis": [], "procedure": [], "medication": []}
    for _, alive, visits in batches_of_visits(counts):
        size = (len(alive), diseases)
        active = chronic[alive] & (rng.random(size) < dials.relapse)
        active |= rng.random(size) < np.minimum(dials.acute * world.prevalence, 0.9)
        none = np.flatnonzero(~active.any(1))
        active[none, rng.choice(diseases, len(none), p=world.prevalence)] = True
        given[alive] = _treated(rng, world, active, liking[alive], given[alive])
        rows, medications = np.nonzero(given[alive])
        pieces["medication"].append((visits[rows], medications))
        rows, sick = np.nonzero(active)
        shown = np.array([families[g][int(u * len(families[g]))] for g, u in zip(sick, rng.random(len(sick)),
                                                                              strict=True)], np.int64)
        vague = np.repeat(np.arange(len(alive)), rng.poisson(dials.noise, len(alive)))
        pieces["diagnosis"].append((visits[np.concatenate([rows, vague])], np.concatenate(
            [shown, rng.integers(world.codes.shape[1], size=len(vague))])))
        done = np.flatnonzero(rng.random(len(rows)) < 0.3)
        other = np.repeat(np.arange(len(alive)), rng.poisson(dials.procedures, len(alive)))
        pieces["procedure"].append((visits[np.concatenate([rows[done], other])], np.concatenate(
            [world.theatre[sick[done], rng.integers(3, size=len(done))], rng.integers(procedures, size=len(other))])))
    return {kind: (np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]))
            for kind, parts in pieces.items()}


def _treated(rng: np.random.Generator, world: World, active: NDArray[np.bool_], liking: NDArray[np.float64],
             before: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """bool[n, K]: each disease's best liked drugs, stand-ins, background and what goes on, without what is seen to
    be contraindicated."""
    dials, drugs = world.dials, world.treats.shape[1]
    given = np.zeros_like(before)
    rows, sick = np.nonzero(active)
    score = np.where(world.treats[sick], liking[rows] + rng.gumbel(size=(len(rows), drugs)), -np.inf)
    order = np.argsort(-score, axis=1)[:, :4]
    wanted = np.minimum(1 + rng.poisson(dials.further, len(rows)), order.shape[1])
    for place in range(order.shape[1]):
        here = np.flatnonzero((wanted > place) & np.isfinite(score[np.arange(len(rows)), order[:, place]]))
        drug = order[here, place]
        stand_in = (rng.random(len(here)) < dials.stand_in) & world.stands_in[drug].any(1)
        other = np.where(world.stands_in[drug], rng.random((len(here), drugs)), -1.0).argmax(1)
        given[rows[here], np.where(stand_in, other, drug)] = True
    given &= ~((active @ world.avoids) & (rng.random(given.shape) < dials.vigilance))
    given |= before & (rng.random(before.shape) < dials.carry)
    given |= rng.random(given.shape) < np.minimum(dials.background * world.background, 0.9)
    return given


def generate(name: str = "cohort-C", shape: Shape | None = None, seed: int = 13, dials: Dials | None = None,
             follows: float = 1.0, facts: PrescribingFacts | None = None) -> Cohort:
    """A cohort of design C; without ``facts`` those of the knowledge base are read.

    The same seed, shape, λ (``follows``) and facts give the same cohort. Of the shape only patients, visits and
    procedures count: codes and medications are the knowledge base's.
    """
    if not 0 <= follows <= 1:
        raise UsageError(f"λ cannot be {follows:g}", hint="0 follows nothing that is known, 1 everything")
    dials, shape = dials or Dials(), shape or Shape()
    if facts is None:
        facts = _facts_of_this_home(dials.medications)
    shape = replace(shape, diagnoses=len(facts.diagnoses), medications=len(facts.medications),
                    procedures=min(shape.procedures, 300))
    world = make_world(seed, facts, follows, dials, shape.procedures)
    places: list[NDArray[np.int64]] = []

    def draw(rng: np.random.Generator, counts: NDArray[np.int64]) -> dict[str, Pairs]:
        hospital = rng.integers(dials.hospitals, size=len(counts))
        places.append(np.repeat(hospital, counts))
        return _draw(rng, counts, world, hospital, shape.procedures)

    made = assemble(name, shape, seed, draw, DESIGN, {"diagnosis": facts.diagnoses, "medication": facts.medications})
    hospital = Attribute.from_texts([f"hospital {place:02d}" for place in np.concatenate(places).tolist()])
    return replace(made, attributes={"hospital": hospital},
                   provenance={**made.provenance, "level": "ingredient", "follows": follows})


def _facts_of_this_home(medications: int) -> PrescribingFacts:
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    engine = open_engine(load_settings())
    try:
        with engine.connect() as connection:
            return read_facts(connection, medications)
    finally:
        engine.dispose()
