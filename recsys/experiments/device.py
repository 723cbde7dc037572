"""Where a network trains: small cohorts on the CPU, where a card would only be waited for."""

from __future__ import annotations

import torch

from kb.errors import ConfigError
from kb.output import say

CARD_VISITS = 100_000
"""Training visits from which a card is taken without being asked for (``benchmarks/bench_device.py``)."""


def training_device(wanted: str, visits: int, able: bool, name: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda`` and a recommender that is ``able`` to run on a card or not.

    Raises ConfigError for ``cuda`` where there is none, or where the recommender cannot.
    """
    card = torch.cuda.is_available()
    if wanted == "cuda":
        if not able:
            raise ConfigError(f"recommender {name} trains on the CPU only", hint="--device cpu")
        if not card:
            raise ConfigError("device is cuda, but torch sees no CUDA card", hint="--device cpu")
        return torch.device("cuda")
    if wanted == "auto" and card and able:
        if visits >= CARD_VISITS:
            return torch.device("cuda")
        say(f"{visits:,} training visits: the CPU is as fast as the card below {CARD_VISITS:,} (--device cuda insists)")
    return torch.device("cpu")
