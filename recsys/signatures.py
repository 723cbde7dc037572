"""Failure signatures: what a run's numbers say when something is wrong, each with its likely cause and remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.recommenders.contract import NeuralRecommender, Recommender


def signatures(rows: Sequence[Mapping[str, Any]], report: Mapping[str, Any],
               recommender: Recommender) -> list[str]:
    """A sentence for each signature found: unsafe output, unstable loss, uniform attention, weakness on the rare."""
    found = [*training_signatures(rows), *_safety(report), *_rarity(report, recommender), *_attention(recommender)]
    return found


def training_signatures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the epochs so far show; called after every epoch too, so that a user need not wait for the end."""
    trained = [row for row in rows if "loss" in row]
    if not trained:
        return []
    found = []
    last = trained[-1]
    if last["loss_max"] > 3 * last["loss"]:
        found.append(f"loss spike in epoch {last['epoch']}: {last['loss_max']:.3g} against a mean of {last['loss']:.3g}"
                     "; lower learning_rate")
    if len(trained) > 1 and last["loss"] > 1.3 * min(row["loss"] for row in trained[:-1]):
        found.append(f"the loss rises (epoch {last['epoch']}: {last['loss']:.3g}); lower learning_rate")
    if len(trained) > 8 and max(trained, key=lambda row: row["jaccard"])["epoch"] <= last["epoch"] // 3:
        found.append("the best validation epoch is long past: overfitting; raise weight_decay, dropout or code_dropout,"
                     " or set patience")
    if last.get("beta") is not None and last["beta"] < 0.1:
        found.append(f"β is {last['beta']:.2g}: the loss is nearly all interactions; raise ddi_target or lower kappa")
    return found


def _safety(report: Mapping[str, Any]) -> list[str]:
    target, rate = report["ddi"]["target"], report["per_visit"]["ddi_rate"]
    if target > 0 and rate > 1.05 * target:
        return [f"DDI rate {rate:.4f} above its target {target:g} at Jaccard {report['per_visit']['jaccard']:.4f}:"
                " β is too low; raise kappa, or check that validation and test patients are alike"]
    return []


def _rarity(report: Mapping[str, Any], recommender: Recommender) -> list[str]:
    rows = report["by_rarity"]
    rare = next((row for name, row in rows.items() if name.startswith("rare")), None)
    common = next((row for name, row in rows.items() if name.startswith("common")), None)
    if rare is None or common is None or rare["average_precision"] > 0.25 * common["average_precision"]:
        return []
    lacking = [code for code, known in zip(recommender.knowledge.medications, recommender.knowledge.known, strict=True)
               if not known]
    knowledge = f"; without a vector: {', '.join(lacking[:8])}{' …' if len(lacking) > 8 else ''}" if lacking else ""
    return [f"weak on rare medications (average precision {rare['average_precision']:.3f}, common"
            f" {common['average_precision']:.3f}){knowledge}"]


def _attention(recommender: Recommender) -> list[str]:
    """Whether a recommender's fragment attention has stayed near uniform."""
    attention = getattr(recommender.network, "attention", None) if isinstance(recommender, NeuralRecommender) else None
    if attention is None:
        return []
    weights = attention[(attention > 0).sum(1) > 1].double()
    if not len(weights):
        return []
    entropy = -(weights * weights.clamp(min=1e-12).log()).sum(1)
    share = float((entropy / (weights > 0).sum(1).double().log()).mean())
    if share > 0.98 and not math.isnan(share):
        return [f"fragment attention is near uniform ({share:.1%} of the largest entropy): fragments add nothing yet;"
                " train longer or with unfrozen molecules"]
    return []
