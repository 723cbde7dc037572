"""Fits, at the end of a run, what foretells a drug's vectors from its structure alone (``embed.transfer``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.config import TransferConfig
from embed.features import minimol
from embed.features.cache import FeatureCache
from embed.source import Corpus
from embed.training.inputs import Inputs
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
              config: TransferConfig, cache: FeatureCache, seed: int) -> TransferHead | None:
    """The head of a run whose drugs have these ``fused`` vectors [N, D] and sides of the split [N]; None without."""
    encoder = chosen_encoder(config)
    rows = np.array([row for row, text in enumerate(corpus.smiles) if text], np.int64)
    if not config.width or not len(rows):
        return None
    read, found = molecules.read([corpus.smiles[row] or "" for row in rows], cache, bits=BITS,
                                 network=encoder is not None)
    rows = rows[read]
    drugs = TransferDrugs(found, inputs.data.group.cpu().numpy()[rows], [corpus.names[row] for row in rows], side[rows])
    raw = inputs.raw_of(rows)
    truths: dict[str, Truth] = {name: (raw[name][0].astype(np.float32), raw[name][1]) for name in ("text", "graph")
                                if name in raw}
    truths["fused"] = (fused[rows], np.linalg.norm(fused[rows], axis=1) > 0)
    return fit_head(drugs, truths, width=config.width, encoder=encoder, seed=seed, penalty=config.penalty or None,
                    compared=config.landmarks)
