"""The training loop of every neural recommender, from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kb.errors import TrainingDiverged
from recsys.cohorts.batches import Histories
from recsys.experiments.config import Config
from recsys.experiments.decode import tune_threshold
from recsys.experiments.device import training_device
from recsys.experiments.losses import DdiControl, accuracy_loss, expected_ddi_rate, pair_penalty
from recsys.knowledge.table import Knowledge
from recsys.recommenders.predict import predict

if TYPE_CHECKING:
    from recsys.recommenders.contract import Log
    from recsys.recommenders.network import Network

BAD_STEPS = 3
"""Steps in a row with a NaN or infinite loss after which training stops."""


def fit_network(network: Network, train: Histories, validation: Histories, config: Config, knowledge: Knowledge, *,
                log: Log | None = None, folder: Path | None = None, resume: bool = False) -> dict[str, Any]:
    """Train the network in place, leave the best validation epoch's weights in it, and return that epoch's row.

    Every epoch draws from a generator seeded with (seed, epoch), so a resumed run equals an uninterrupted one. It
    trains on the device that ``config.device`` says, and is on the CPU again when it ends.
    Raises TrainingDiverged after BAD_STEPS steps in a row with a loss that is not finite.
    """
    device = training_device(config.device, train.visits, network.on_card, config.recommender)
    network.to(device)
    optimizer = torch.optim.AdamW(_groups(network, config), lr=config.learning_rate, fused=True)
    control = DdiControl(config.ddi_target, config.kappa, memory=0.0 if config.mode == "reference" else 0.9)
    matrix = torch.from_numpy(knowledge.interactions.matrix.astype(np.float32)).to(device)
    best: dict[str, Any] = {"jaccard": -1.0}
    first = 0
    if folder is not None and resume:
        from recsys.experiments.checkpoint import resume_training

        first, best, control.rate = resume_training(folder, network, optimizer)
    for epoch in range(first, config.epochs):
        if config.patience and epoch - best.get("epoch", epoch) >= config.patience:
            break
        begun = time.process_time()
        with device if device.type != "cpu" else nullcontext():  # what a layer makes on its way is made there too
            row = _epoch(network, optimizer, train, config, control, matrix, epoch)
        row["seconds"] = time.process_time() - begun
        threshold, jaccard = _validate(network, validation)
        row |= {"epoch": epoch + 1, "jaccard": jaccard, "threshold": threshold, "ddi_rate": control.rate}
        if jaccard > best["jaccard"]:
            best = {**row, "state": {name: t.detach().clone() for name, t in network.state_dict().items()}}
        if log is not None:
            log(row)  # before the checkpoint: a resumed run cuts rows that no checkpoint holds, and can make none up
        if folder is not None:
            from recsys.experiments.checkpoint import save_training

            save_training(folder, network, optimizer, best, epoch + 1, control.rate)
    if "state" in best:
        network.load_state_dict(best["state"])
    network.cpu().eval()
    return {name: value for name, value in best.items() if name != "state"}


def _groups(network: Network, config: Config) -> list[dict[str, Any]]:
    """Parameters with weight decay (matrices) and without (biases, gains)."""
    matrices = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    return [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _rates(config: Config, steps: int, epoch: int) -> Iterator[float]:
    """The step sizes of one epoch: a short linear warm-up, then a cosine to a tenth of the peak."""
    total, warm = steps * config.epochs, min(steps, 50)
    for step in range(epoch * steps, (epoch + 1) * steps):
        turn = 0.55 + 0.45 * math.cos(math.pi * step / total)
        yield config.learning_rate * turn * min(1.0, (step + 1) / warm)


def _epoch(network: Network, optimizer: torch.optim.Optimizer, train: Histories, config: Config, control: DdiControl,
           matrix: torch.Tensor, epoch: int) -> dict[str, Any]:
    network.train()
    torch.manual_seed(config.seed * 100_003 + epoch)
    steps = math.ceil(train.patients / config.batch)
    losses, norms, betas, bad = [], [], [], 0
    parameters = list(network.parameters())
    batches = train.batches(config.batch, np.random.default_rng((config.seed, epoch)))
    for batch, rate in zip(batches, _rates(config, steps, epoch), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, accuracy, beta = _loss(network, batch.to(matrix.device), config, control, matrix)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = clip_gradients(parameters, config.clip)
        if not (math.isfinite(norm) and math.isfinite(float(loss.detach()))):
            bad += 1
            if bad >= BAD_STEPS:
                raise TrainingDiverged(f"the loss was not finite for {bad} steps (epoch {epoch + 1})",
                                       hint="lower learning_rate; the best epoch so far is kept in last.pt")
            continue
        bad = 0
        optimizer.step()
        losses.append(float(accuracy.detach()))
        norms.append(norm)
        betas.append(beta)
    return {"loss": float(np.mean(losses)), "loss_max": float(np.max(losses)), "gradient_norm": float(np.max(norms)),
            "beta": float(np.mean(betas)), "learning_rate": rate}


def clip_gradients(parameters: list[torch.nn.Parameter], largest: float) -> float:
    """The gradient's norm; gradients are scaled down to ``largest`` where it is more (most steps: nothing to do)."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    if float(norm) > largest:
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm, foreach=True)
    return float(norm)


def _loss(network: Network, batch: Any, config: Config, control: DdiControl,
          matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(what is minimised, its part for accuracy before β weighs it, β)."""
    logits, further = network.objective(batch)
    target = batch.target
    if not bool(batch.scored.all()):
        logits, target = logits[batch.scored], target[batch.scored]
    if not len(logits):
        nothing = sum((p.sum() * 0 for p in network.parameters()), torch.zeros(()))
        return nothing, nothing, 1.0
    loss = accuracy_loss(logits, target, bce=config.bce, margin=config.margin)
    if further is not None:
        loss = loss + further
    if config.ddi_target <= 0 or not config.ddi_loss:
        return loss, loss, 1.0
    accuracy = loss
    probability = torch.sigmoid(logits)
    beta = control.beta(probability, matrix, 0.5)
    if beta < 1.0:
        if config.mode == "reference":
            loss = beta * loss + (1 - beta) * 0.0005 * pair_penalty(probability, matrix)
        else:
            loss = beta * loss + (1 - beta) * expected_ddi_rate(probability, matrix)
    return loss, accuracy, beta


def _validate(network: Network, validation: Histories) -> tuple[float, float]:
    """(threshold, mean Jaccard at it) over the scored validation visits."""
    probability = predict(network, validation)
    keep = validation.scored
    return tune_threshold(probability[keep], validation.target(np.flatnonzero(keep)), validation.unseen[keep])
