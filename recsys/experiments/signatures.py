"""Failure signatures: what a run's numbers say when something is wrong, each with its likely cause and remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.recommenders.contract import Recommender
from recsys.recommenders.network import NeuralRecommender

RARE_LIFT = 1.5
"""Rare medications are weak when their average precision is below this many times that of a random order."""
UNIFORM = 0.98
"""Share of the largest entropy from which fragment attention counts as uniform."""
UNSAFE = 1.3
"""Output while training is unsafe above this many times the DDI target; the rule tuned afterwards may still meet it."""
OVERFITTED = 0.95
"""The share of the best validation Jaccard below which the last epoch counts as overfitted."""
WARM = 3
"""Epochs before the output is judged."""


def signatures(rows: Sequence[Mapping[str, Any]], report: Mapping[str, Any],
               recommender: Recommender) -> list[str]:
    """A sentence for each signature found: unsafe output, unstable loss, uniform attention, weakness on the rare.

    An unstable loss counts whenever it was, everything else as it is at the end.
    """
    control = recommender.config
    target = control.ddi_target if control.ddi_loss else 0.0
    trained = [row for row in rows if "loss" in row]
    unstable = next((found for n in range(1, len(trained) + 1) if (found := _unstable(trained[:n]))), [])
    settled = _settled(trained, target)
    uniform = [line for line in _uniform(attention_entropy(recommender)) if line not in settled]
    return [*unstable, *settled, *_safety(report), *_rarity(report), *uniform]


def training_signatures(rows: Sequence[Mapping[str, Any]], ddi_target: float = 0.0) -> list[str]:
    """What the last of these epochs shows; called after every epoch, so that a user need not wait for the end.

    ``ddi_target`` is 0 where the loss knows nothing of interactions.
    """
    trained = [row for row in rows if "loss" in row]
    return [*_unstable(trained), *_settled(trained, ddi_target)]


def _unstable(trained: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the loss spiked or rose in the last epoch."""
    if not trained:
        return []
    last, found = trained[-1], []
    if last["loss_max"] > 3 * last["loss"]:
        found.append(f"loss spike in epoch {last['epoch']}: {last['loss_max']:.3g} against a mean of {last['loss']:.3g}"
                     "; lower learning_rate")
    low = min((row["loss"] for row in trained[:-1]), default=math.inf)
    if last["loss"] > 1.3 * low and last["loss"] - low > 0.1 * trained[0]["loss"]:
        found.append(f"the loss rises (epoch {last['epoch']}: {last['loss']:.3g}); lower learning_rate")
    return found


def _settled(trained: Sequence[Mapping[str, Any]], ddi_target: float) -> list[str]:
    """Overfitting, a β that leaves nothing of accuracy, unsafe output, uniform attention: as of the last epoch."""
    if not trained:
        return []
    last, found = trained[-1], []
    top = max(trained, key=lambda row: row["jaccard"])
    if len(trained) > 8 and top["epoch"] <= last["epoch"] // 3 and last["jaccard"] < OVERFITTED * top["jaccard"]:
        found.append("the best validation epoch is long past: overfitting; raise weight_decay, dropout or code_dropout,"
                     " or set patience")
    if last.get("beta") is not None and last["beta"] < 0.1:
        found.append(f"β is {last['beta']:.2g}: the loss is nearly all interactions; raise ddi_target or lower kappa")
    if len(trained) >= WARM:
        found += [*_unsafe_while_training(trained, ddi_target), *_uniform(last.get("attention_entropy"))]
    return found


def _unsafe_while_training(trained: Sequence[Mapping[str, Any]], target: float) -> list[str]:
    """Whether the DDI rate is far above its target while accuracy is near its best: the safety term has no grip."""
    last, best = trained[-1], max(row["jaccard"] for row in trained)
    rate = last.get("ddi_rate")
    if target <= 0 or rate is None or rate <= UNSAFE * target or last["jaccard"] < 0.98 * best:
        return []
    return [f"DDI rate {rate:.4f} against a target of {target:g} at good accuracy (Jaccard {last['jaccard']:.4f}): the"
            " interactions' share of the loss, 1 − β, is too low; raise kappa"]


def _safety(report: Mapping[str, Any]) -> list[str]:
    target, rate = report["ddi"]["target"], report["per_visit"]["ddi_rate"]
    if target > 0 and rate > 1.05 * target:
        return [f"DDI rate {rate:.4f} of test patients above its target {target:g} at Jaccard"
                f" {report['per_visit']['jaccard']:.4f}: β is too low; raise kappa, or check that validation and test"
                " patients are alike"]
    return []


def _rarity(report: Mapping[str, Any]) -> list[str]:
    """Whether rare medications are ranked hardly better than by chance, and which of them lack knowledge."""
    rows = report["by_rarity"]
    rare = next((row for name, row in rows.items() if name.startswith("rare")), None)
    if rare is None or not rare["occurrences"] or rare["average_precision"] > RARE_LIFT * rare["chance"]:
        return []
    lacking, shown = report["rare_without_vector"]["count"], report["rare_without_vector"]["codes"]
    knowledge = (f"; {lacking} of these {rare['medications']} have no vector: {', '.join(shown)}"
                 f"{' …' if lacking > len(shown) else ''}" if lacking else "; all of them have vectors")
    return [f"weak on rare medications (average precision {rare['average_precision']:.3f}, by chance"
            f" {rare['chance']:.3f}){knowledge}"]


def attention_entropy(recommender: Recommender) -> float | None:
    """The mean entropy of the recommender's fragment attention as a share of the largest one; None without any.

    Medications with a single fragment say nothing and are left out.
    """
    network = recommender.network if isinstance(recommender, NeuralRecommender) else None
    parts = (network, getattr(network, "drugs", None))  # of the recommender itself, or of the encoder in its table
    attention = next((found for part in parts if (found := getattr(part, "attention", None)) is not None), None)
    if attention is None:
        return None
    weights = attention[(attention > 0).sum(1) > 1].double()
    if not len(weights):
        return None
    entropy = -(weights * weights.clamp(min=1e-12).log()).sum(1)
    share = float((entropy / (weights > 0).sum(1).double().log()).mean())
    return None if math.isnan(share) else share


def _uniform(entropy: float | None) -> list[str]:
    if entropy is None or entropy <= UNIFORM:
        return []
    return [f"fragment attention is near uniform ({entropy:.1%} of the largest entropy): fragments add nothing yet;"
            " train longer or with a higher learning_rate"]
