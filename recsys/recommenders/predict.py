"""Probabilities of a network, batch by batch: what training, evaluation and answers share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recsys.cohorts.batches import Histories
from recsys.experiments.threads import one_thread


def predict(network: nn.Module, visits: Histories, batch: int = 512) -> np.ndarray:
    """float32[N, K] in the order of the histories' rows, dropout off; computed where the network's weights are."""
    was, device = network.training, next(network.parameters(), torch.empty(0)).device
    network.eval()
    out = np.empty((visits.visits, visits.sizes.medication), np.float32)
    with one_thread(), device, torch.inference_mode():
        for part in visits.batches(batch):
            out[part.rows] = torch.sigmoid(network(part.to(device))).cpu().numpy()
    network.train(was)
    return out
