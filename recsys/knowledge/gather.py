"""The knowledge of a vocabulary of medications, gathered from the knowledge base and the vector store.

A medication's vector is the normalised mean of its drugs' published vectors, over the drugs that have one, biologics
included. Two medications interact when a drug of the one is listed with another drug of the other; a drug never
interacts with itself (``recsys.orders.interactions``).
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, Engine, select

from kb.errors import CheckpointError, DataError, NotFound, UsageError
from kb.names.lexicon import read_bases
from kb.output import say
from kb.query import read as query
from recsys.cohorts.cohort import Cohort
from recsys.knowledge.evidence import CodeEvidence, read_evidence
from recsys.knowledge.table import Knowledge, no_knowledge
from recsys.orders.classes import LEVELS, is_combination
from recsys.orders.interactions import (
    DrugInteractions,
    Interactions,
    compared,
    read_interactions,
    read_matrix,
    rolled_up,
    supplied,
)
from recsys.orders.ordered import OrderedInteractions, Shares, ordered_interactions, shares


def drugs_of(connection: Connection, medications: Sequence[str], shares: Shares | None = None,
             base_of: Mapping[int, int] | None = None) -> list[tuple[int, ...]]:
    """The drug ids of each medication: ``ATC:<code at any level>`` or ``DRUG:<identity>``, salts with their bases.

    A class that ``shares`` knows is the drugs that were ordered under it; another one those of the ATC table, by codes
    that are not of combinations where there are any.
    """
    everything = query.drugs(connection)
    base_of = read_bases(connection) if base_of is None else base_of
    salts: dict[int, list[int]] = defaultdict(list)
    for salt, base in base_of.items():
        salts[base].append(salt)
    by_key = {f"DRUG:{identity}": (drug, *sorted(salts[drug])) for drug, identity in
              zip(everything.ids.tolist(), everything.identities, strict=True)}
    alone: dict[str, set[int]] = defaultdict(set)
    mixed: dict[str, set[int]] = defaultdict(set)
    for drug, code in query.atc(connection):
        for length in LEVELS.values():
            (mixed if is_combination(code) else alone)[f"ATC:{code[:length]}"].add(drug)
    found = []
    for code in medications:
        keys = [key for key in (shares or {}).get(code, ()) if key in by_key]
        ordered = tuple(sorted({drug for key in keys for drug in by_key[key]}))
        found.append(by_key.get(code) or ordered or tuple(sorted(alone.get(code) or mixed.get(code) or ())))
    return found


def read_knowledge(engine: Engine, medications: tuple[str, ...], *, vectors: bool = True,
                   runs: Path | None = None, encoder: bool = False, codes: Sequence[str] = (),
                   cache: Path | None = None, shares: Shares | None = None, run: str = "") -> Knowledge:
    """The knowledge of these medications as published now; with ``vectors`` false only interactions and molecules.

    ``runs`` is the folder of the embedding runs, from which the published run's fusion is read where it is there, and
    with ``encoder`` its molecule encoder. With ``codes`` comes the evidence between those codes and the medications,
    by the published run's text tower; ``cache`` is the folder of features. ``shares`` says which ingredients were
    ordered under each medication, and how often; a medication that it lacks is all drugs of its class alike. ``run``
    is the id, or its beginning, of a stored embedding run that stands in for the published one.
    Raises NotFound when vectors are wanted and no embedding run is published, or none of that id stored.
    """
    with engine.connect() as connection:
        base_of = read_bases(connection)
        drugs = drugs_of(connection, medications, shares, base_of)
        listed = query.drugs(connection)
        everything = read_interactions(connection, base_of)
        classes = {f"ATC:{code}": name for code, name in query.atc_classes(connection)}
    smiles_of = dict(zip(listed.ids.tolist(), listed.smiles, strict=True))
    name_of = dict(zip(listed.ids.tolist(), listed.names, strict=True))
    names = tuple(classes.get(code) or _name(code, [name_of[d] for d in ids])
                  for code, ids in zip(medications, drugs, strict=True))
    smiles = tuple(tuple(s for d in ids if (s := smiles_of[d])) for ids in drugs)
    key_of = {drug: f"DRUG:{identity}" for drug, identity in zip(listed.ids.tolist(), listed.identities, strict=True)}
    ingredients = tuple(tuple(dict.fromkeys(key_of[base_of.get(drug, drug)] for drug in ids)) for ids in drugs)
    known = everything.among(key for keys in ingredients for key in keys)
    interactions = _interactions(medications, ingredients, known, shares or {})
    plain = no_knowledge(medications, interactions, names=names, smiles=smiles,
                         ingredients=ingredients, drug_interactions=known)
    gathered = _with_vectors(engine, plain, drugs, smiles_of, runs, encoder, run) if vectors else plain
    evidence = _evidence(engine, runs, cache, codes, drugs, medications, run) if codes and runs is not None else None
    return replace(gathered, evidence=evidence if vectors or evidence is None else evidence.titles_alone())


def cohort_interactions(engine: Engine, cohort: Cohort) -> OrderedInteractions:
    """The listed pairs of drugs ordered on all visits of a cohort, beside what its labels' class matrix flags."""
    medications = cohort.vocabularies["medication"].codes
    with engine.connect() as connection:
        base_of = read_bases(connection)
        known = read_interactions(connection, base_of)
        drugs = drugs_of(connection, medications, None, base_of)
        listed = query.drugs(connection)
    key_of = {drug: f"DRUG:{identity}" for drug, identity in zip(listed.ids.tolist(), listed.identities, strict=True)}
    members = [tuple(dict.fromkeys(key_of[base_of.get(drug, drug)] for drug in ids)) for ids in drugs]
    classes = _interactions(medications, members, known, {}).matrix
    return ordered_interactions(cohort, np.arange(cohort.visits), known, classes, medications)


def check_matrix(engine: Engine, cohort: Cohort, path: Path) -> dict[str, int | str]:
    """A supplied matrix of interactions beside the one rebuilt for the cohort's medications as they were ordered.

    Raises DataError where it is of another vocabulary.
    """
    medications = cohort.vocabularies["medication"].codes
    given = supplied(*read_matrix(path), medications, path.name)
    made = read_knowledge(engine, medications, vectors=False, shares=shares(cohort, np.arange(cohort.visits)))
    return compared(given, made.interactions)


def _evidence(engine: Engine, runs: Path, cache: Path | None, codes: Sequence[str],
              drugs: Sequence[Sequence[int]], medications: Sequence[str], wanted: str) -> CodeEvidence | None:
    """The evidence by the wanted run's text tower, the published one's for an empty text.

    None, with a word why, where that cannot be had.
    """
    from embed.features.cache import FeatureCache
    from embed.runs import artefact
    from embed.runs.store import read
    from embed.runs.textual import TextEmbedder

    try:
        run = _run(engine, wanted)
        trained = TextEmbedder(artefact.load(runs / str(run)), FeatureCache(cache))
    except (NotFound, CheckpointError, UsageError) as error:
        say(f"{error.message}: the titles of codes are not read")
        return None
    fused = read(engine, run)
    with engine.connect() as connection:
        return read_evidence(connection, trained.sentences, trained.aligned, codes, drugs, fused.drug_ids,
                             fused.matrix, medications)


def _name(code: str, drugs: Sequence[str]) -> str:
    """What a reader is shown for a medication whose class has no name: its drug, or a few drugs of its class."""
    if not drugs:
        return code
    shown = ", ".join(sorted(drugs)[:3])
    return shown if len(drugs) <= 3 else f"{shown} …"


def _interactions(medications: Sequence[str], ingredients: Sequence[Sequence[str]], known: DrugInteractions,
                  shares: Shares) -> Interactions:
    """The interactions of medications from those of their ingredients, which are ordered as ``shares`` says."""
    keys = sorted({key for members in ingredients for key in members})
    place = {key: column for column, key in enumerate(keys)}
    weights = np.zeros((len(ingredients), len(keys)), np.float32)
    for row, (code, members) in enumerate(zip(medications, ingredients, strict=True)):
        own = shares.get(code, {})
        for key in members:
            weights[row, place[key]] = own.get(key, 0.0) if any(k in own for k in members) else 1.0
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    return rolled_up(known.matrix(keys), weights, known.sources or "none in the knowledge base")


def _with_vectors(engine: Engine, knowledge: Knowledge, drugs: Sequence[Sequence[int]],
                  smiles_of: Mapping[int, str | None], runs: Path | None, encoder: bool, wanted: str) -> Knowledge:
    from embed.runs.schema import VECTOR_KINDS
    from embed.runs.store import read

    try:
        run = _run(engine, wanted)
    except NotFound as error:
        raise NotFound(error.message, hint=f"{error.hint}; or train with --set vectors=learned") from None
    fused = read(engine, run)
    vectors = _means(fused.drug_ids, fused.matrix, drugs)
    known = np.linalg.norm(vectors, axis=1) > 0
    kinds = VECTOR_KINDS[:fused.rests_on.shape[1]]
    rests_on = _any(fused.drug_ids, fused.rests_on, drugs)
    alone = []
    for kind in kinds:
        try:
            part = read(engine, run, kind)
        except NotFound:
            alone.append(np.zeros_like(vectors))
            continue
        alone.append(_means(part.drug_ids, part.matrix, drugs))
    if not known.any():
        raise DataError("none of the medications has a published vector",
                        hint="mkmed kb ingest more drugs, then mkmed embed pretrain; or --set vectors=learned")
    from recsys.knowledge.composition import read_composition

    parts = None if runs is None else read_composition(engine, run, runs / str(run), drugs, smiles_of, vectors,
                                                       encoder=encoder)
    return replace(knowledge, vectors=vectors, known=known, rests_on=rests_on, modalities=tuple(map(str, kinds)),
                   modality_vectors=np.stack(alone), vectors_run=str(run), composition=parts)


def _run(engine: Engine, wanted: str) -> uuid.UUID:
    """The stored run of this id or beginning, the published one for an empty text."""
    from embed.runs.store import find_run, published_run

    if not wanted:
        return published_run(engine)
    with engine.connect() as connection:
        return find_run(connection, wanted)


def refuse_treat_edges(engine: Engine, wanted: str) -> None:
    """Raises UsageError for a stored embedding run whose graph says what drugs are given for.

    A drug that is to be ranked as if it were new must not have been placed by its indications. What texts say of a
    drug's use stays in such a run, as a leaflet has it.
    """
    from kb.query.read import INDICATIONS
    from kb.schema.ledger import run as runs

    run = _run(engine, wanted)
    with engine.connect() as connection:
        config = connection.scalar(select(runs.c.config).where(runs.c.id == run)) or {}
    excluded = config.get("graph", {}).get("exclude", ())
    told = [word for word in INDICATIONS if not any(part in word for part in excluded)]
    if told and "graph" in config.get("modalities", ["graph"]):
        every = ",".join((*excluded, *told))
        raise UsageError(f"the graph of run {str(run)[:8]} has treatment edges: {', '.join(told)}",
                         hint=f"mkmed embed pretrain --set graph.exclude={every}")


def _means(ids: np.ndarray, matrix: np.ndarray, drugs: Sequence[Sequence[int]]) -> np.ndarray:
    """float32[K, D]: the normalised mean over each medication's drugs that have a row; zero where none has."""
    place = {int(drug): row for row, drug in enumerate(ids)}
    out = np.zeros((len(drugs), matrix.shape[1]), np.float32)
    for medication, members in enumerate(drugs):
        rows = [place[d] for d in members if d in place]
        if rows:
            mean = matrix[rows].mean(0)
            out[medication] = mean / max(float(np.linalg.norm(mean)), 1e-6)
    return out


def _any(ids: np.ndarray, mask: np.ndarray, drugs: Sequence[Sequence[int]]) -> np.ndarray:
    """bool[K, M]: whether any of the medication's drugs rests on the modality."""
    place = {int(drug): row for row, drug in enumerate(ids)}
    rows = [[place[d] for d in members if d in place] for members in drugs]
    return np.array([mask[r].any(0) if r else np.zeros(mask.shape[1], bool) for r in rows])


def bundled_knowledge(medications: tuple[str, ...]) -> Knowledge:
    """The knowledge that needs no database: interactions of ATC level-3 classes as bundled, no vectors."""
    from recsys.generators.classes import class_interactions

    classes = [code.removeprefix("ATC:") for code in medications]
    source = "bundled NDF-RT and ONC, 5.26 % of pairs"
    return no_knowledge(medications, Interactions(class_interactions(classes), source))
