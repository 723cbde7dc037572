"""What a data set is asked: a drug of the knowledge base, a text or a molecule, as a vector of the set's own run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from embed.features.cache import FeatureCache
from embed.registry import ANCHOR
from embed.runs import artefact
from embed.runs import folder as run_folder
from embed.runs.artefact import Artefact
from embed.runs.embedder import Embedder
from embed.runs.textual import TextEmbedder
from embed.screening.dataset import ScreeningSet
from kb.chemistry import canonical, read_smiles
from kb.errors import CheckpointError, DataError, UsageError
from kb.query import read as query
from kb.settings import Settings

Vector = NDArray[np.float32]


def run_of(one: ScreeningSet, settings: Settings) -> Artefact:
    """The run that made the data set; raises NotFound where it is not on this disk, CheckpointError for another."""
    run = artefact.load(run_folder.find_folder(settings, one.run))
    if run.digest != one.artefact:
        raise CheckpointError(f"the vectors of {one.folder} were made by other weights than run {one.run[:8]} has here",
                              hint="mkmed embed import FILE brings that run, or encode the compounds again")
    return run


def ask_drug(engine: Engine, name: str, one: ScreeningSet, settings: Settings) -> Vector:
    """The vector of a known drug's structure; raises DataError for one that has none."""
    with engine.connect() as connection:
        drug_id = query.find_drug(connection, name)
        smiles = query.drugs(connection, drug_ids=np.array([drug_id])).smiles[0]
    if not smiles:
        raise DataError(f"{name} has no structure in the knowledge base", hint="--text describes it in words")
    return ask_smiles(smiles, one, settings)


def ask_smiles(smiles: str, one: ScreeningSet, settings: Settings) -> Vector:
    """The vector of a molecule; raises DataError for what is none."""
    run = Embedder(run_of(one, settings), FeatureCache(None))
    settled = canonical(read_smiles(smiles))
    found = run.smiles([settled]) if one.kind == ANCHOR else run.foretell([settled])[1].wide
    if not len(found):
        raise DataError(f"the run has no vector for {smiles[:60]}")
    vector: Vector = found[0]
    return vector


def ask_text(text: str, one: ScreeningSet, settings: Settings) -> Vector:
    """The text tower's vector; raises UsageError for a data set whose vectors texts cannot be compared with."""
    if one.kind != ANCHOR:
        raise UsageError(f"the data set holds {one.kind} vectors, which no text can be compared with",
                         hint="mkmed embed encode --vectors molecule makes a set that can be asked in words")
    if not text.strip():
        raise DataError("an empty text has no vector")
    run = TextEmbedder(run_of(one, settings), FeatureCache(settings.cache / "features"))
    vector: Vector = run.aligned(run.sentences([text]))[0]
    return vector
