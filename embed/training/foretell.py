"""Fits, at the end of a run, what foretells a drug's vectors from its structure alone (``embed.transfer``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embed.config import PretrainConfig, TransferConfig
from embed.features import minimol
from embed.features.cache import FeatureCache
from embed.features.masking import masked
from embed.features.reduce import unit
from embed.features.work import frozen_chunks
from embed.registry import TEXT_MODELS
from embed.source import Corpus, held
from embed.training.inputs import Inputs
from embed.training.pairs import Pair, read_pairs, unknown_pairs
from embed.transfer import molecules
from embed.transfer.fit import TransferDrugs, Truth, fit_head
from embed.transfer.head import TransferHead
from kb.errors import ConfigError
from kb.output import say

BITS = 2048


def chosen_encoder(config: TransferConfig, *, tell: bool = False) -> dict[str, Any] | None:
    """The identity of MiniMol where it is wanted and there; raises ConfigError where it is wanted and not there.

    With ``tell`` it is said that a run goes without.
    """
    if config.encoder not in ("auto", "minimol", "none"):
        raise ConfigError(f"transfer.encoder is {config.encoder!r}", hint="one of: auto, minimol, none")
    if config.encoder == "none" or not config.width:
        return None
    if minimol.available():
        return minimol.identity()
    if config.encoder == "minimol":
        raise ConfigError("transfer.encoder is minimol, which is not installed", hint=minimol.INSTALL)
    if tell:
        say(f"MiniMol is not installed: unseen molecules are compared without it ({minimol.INSTALL})")
    return None


def take_head(corpus: Corpus, inputs: Inputs, fused: NDArray[np.float32], side: NDArray[np.int8],
              config: PretrainConfig, cache: FeatureCache, like: TransferHead | None = None) -> TransferHead | None:
    """The head of a run whose drugs have these ``fused`` vectors [N, D] and sides of the split [N]; None without.

    ``like`` is one that was fitted before on the same drugs, see ``embed.transfer.fit.fit_head``.
    """
    t = config.transfer
    encoder = chosen_encoder(t)
    rows = np.array([row for row, text in enumerate(corpus.smiles) if text], np.int64)
    if not t.width or not len(rows):
        return None
    read, found = molecules.read([corpus.smiles[row] or "" for row in rows], cache, bits=BITS,
                                 network=encoder is not None)
    rows = rows[read]
    group, names, sides = inputs.data.group.cpu().numpy()[rows], [corpus.names[row] for row in rows], side[rows]
    raw = inputs.raw_of(rows)
    truths: dict[str, Truth] = {name: (raw[name][0].astype(np.float32), raw[name][1]) for name in ("text", "graph")
                                if name in raw}
    truths["fused"] = (fused[rows], np.linalg.norm(fused[rows], axis=1) > 0)
    drugs = TransferDrugs(found, group, names, sides)
    if t.pairs and "text" in truths:
        held_out = [corpus.smiles[row] or "" for row in rows[np.isin(sides, (1, 2))]]
        pairs = unknown_pairs([pair for path in t.pairs for pair in read_pairs(Path(path))],
                              {block for block in corpus.blocks if block}, held_out, cache)
        drugs, truths = with_pairs(drugs, truths, pairs, inputs, config, cache)
    return fit_head(drugs, truths, width=t.width, encoder=encoder, seed=config.seed, penalty=t.penalty or None,
                    compared=t.landmarks, like=like)


def with_pairs(drugs: TransferDrugs, truths: dict[str, Truth], pairs: list[Pair], inputs: Inputs,
               config: PretrainConfig, cache: FeatureCache) -> tuple[TransferDrugs, dict[str, Truth]]:
    """The drugs and their truths with other molecules behind them that train, of which a text alone is known."""
    if not pairs:
        return drugs, truths
    network = bool(drugs.molecules.network.shape[1])
    read, found = molecules.read([smiles for smiles, _ in pairs], cache, bits=BITS, network=network)
    kept = [pairs[k] for k in read]
    if not kept:
        return drugs, truths
    count, known = len(kept), len(drugs.side)
    text = inputs.fitted.projections["text"].apply(_sentences([words for _, words in kept], inputs, config, cache))
    added = {}
    for name, (matrix, has) in truths.items():
        more = text if name == "text" else np.zeros((count, matrix.shape[1]), np.float32)
        added[name] = np.concatenate([matrix, more]), np.concatenate([has, np.full(count, name == "text")])
    group = np.concatenate([drugs.group, int(drugs.group.max()) + 1 + np.arange(count)])
    other = np.concatenate([np.zeros(known, bool), np.ones(count, bool)])
    side = np.concatenate([drugs.side, np.zeros(count, np.int8)])
    names = [*drugs.names, *(smiles for smiles, _ in kept)]
    return TransferDrugs(molecules.joined_molecules(drugs.molecules, found), group, names, side, other), added


def _sentences(texts: list[str], inputs: Inputs, config: PretrainConfig, cache: FeatureCache) -> NDArray[np.float32]:
    """The frozen text model's unit vectors (n, F), through the cache; it must be the run's own."""
    device = torch.device("cpu")
    model = TEXT_MODELS[config.text.model](config.text, device)
    inputs.fitted.identify("text", model.identity)
    contents = held(range(len(texts)), texts)
    contents = masked(contents) if config.text.mask else contents
    chunks = frozen_chunks("text", config.text, model, device, contents.load)
    found = cache.open(f"text-{model.name}", model.version, contents.keys(), chunks)
    items = found.all()
    assert items is not None  # a text model has a vector for every text
    return unit(items.columns["vector"][found.position].astype(np.float32))
