"""Finding a run: the published one, the last one, or one by the start of its id."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from embed.features.cache import FeatureCache
from embed.runs import artefact, store
from embed.runs import folder as run_folder
from embed.runs.artefact import Artefact
from kb.errors import NotFound
from kb.output import say
from kb.settings import Settings

if TYPE_CHECKING:
    from embed.runs.embedder import Embedder
    from embed.runs.textual import TextEmbedder


def find_run_folder(engine: Engine, settings: Settings, wanted: str) -> Path:
    """The folder of the run that ``wanted`` names: ``published``, ``last``, or the start of an id."""
    if wanted == "published":
        return run_folder.pretrain_folder(settings) / str(store.published_run(engine))
    return run_folder.find_folder(settings, wanted)


def load_run(engine: Engine, settings: Settings, wanted: str = "published") -> Artefact:
    """The artefact of a run; raises NotFound when its folder is not on this disk."""
    folder = find_run_folder(engine, settings, wanted)
    if not folder.is_dir():
        raise NotFound(f"run {folder.name} is stored in the database, but its folder is not on this disk",
                       hint="mkmed embed export on the machine that has it, then mkmed embed import FILE here")
    return artefact.load(folder)


def open_embedder(engine: Engine, settings: Settings, wanted: str = "published") -> Embedder:
    """The embedder of a run, with the features that are cached here."""
    from embed.runs.embedder import Embedder

    return Embedder(load_run(engine, settings, wanted), FeatureCache(settings.cache / "features"))


def open_text_embedder(engine: Engine, settings: Settings, wanted: str = "published") -> TextEmbedder:
    """The text part of a run, with the features that are cached here; it needs no torch."""
    from embed.runs.textual import TextEmbedder

    return TextEmbedder(load_run(engine, settings, wanted), FeatureCache(settings.cache / "features"))


def digest_at_hand(settings: Settings, run_id: uuid.UUID) -> str | None:
    """The digest of a run's folder, all of its files checked; None, with a word, where it is not on this disk."""
    folder = run_folder.pretrain_folder(settings) / str(run_id)
    if not artefact.is_run(folder):
        say(f"the folder of run {str(run_id)[:8]} is not on this disk: its weights are not compared with its vectors")
        return None
    found = artefact.load(folder)
    if isinstance(found, artefact.OldArtefact):
        say(f"run {str(run_id)[:8]} is of release 0.1.0: its weights cannot be compared with its vectors")
        return None
    for name in found.files:
        found.bytes_of(name)
    return found.digest
