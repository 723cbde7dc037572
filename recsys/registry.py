"""The recommenders by name; one file and one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kb.registry import Registry

if TYPE_CHECKING:
    from recsys.experiments.config import Config
    from recsys.recommenders.contract import Recommender

RECOMMENDERS: Registry[type[Recommender]] = Registry("recommender", {
    "mkmed": "recsys.recommenders.mkmed:MKMed",
    "pairs": "recsys.recommenders.pairs:Pairs",
    "retain": "recsys.recommenders.retain:Retain",
    "gamenet": "recsys.recommenders.gamenet:Gamenet",
    "safedrug": "recsys.recommenders.safedrug:Safedrug",
    "molerec": "recsys.recommenders.molerec:Molerec",
    "micron": "recsys.recommenders.micron:Micron",
    "transformer": "recsys.recommenders.transformer:Transformer",
    "armr": "recsys.recommenders.armr:Armr",
    "popularity": "recsys.recommenders.popularity:Popularity",
    "logistic": "recsys.recommenders.logistic:Logistic",
    "logistic_history": "recsys.recommenders.logistic_history:LogisticHistory",
    "repeat_last": "recsys.recommenders.repeat_last:RepeatLast",
}, group="mkmed.recommenders")


def recommender_of(config: Config) -> type[Recommender]:
    """The class that a configuration names, whose mode is settled (recsys.experiments.runs.settled)."""
    closed = config.recommender == "mkmed" and config.mode == "pairs"
    return RECOMMENDERS["pairs" if closed else config.recommender]
