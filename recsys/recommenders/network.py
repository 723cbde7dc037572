"""Recommenders whose weights are learned: a module that turns a batch into logits, and the training loop around it."""

from __future__ import annotations

import abc
from pathlib import Path

import numpy as np
import torch
from torch import nn

from recsys.cohorts.batches import Batch, Histories, Sizes
from recsys.experiments.config import Config
from recsys.experiments.threads import one_thread
from recsys.experiments.train import fit_network
from recsys.knowledge.table import Knowledge
from recsys.recommenders.contract import Log, Recommender
from recsys.recommenders.layers import DrugTable
from recsys.recommenders.predict import predict


class Network(nn.Module):
    """A module that turns a batch into logits [N, K]."""

    on_card = False
    """Whether all that it reads moves with ``.to(device)``, so that it can train on a card."""

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits [N, K]."""
        raise NotImplementedError

    def observe(self, train: Histories) -> None:
        """Take counts from the training patients before the first step; nothing by default."""

    def learned_knowledge(self, knowledge: Knowledge) -> Knowledge:
        """The medications' knowledge after training: changed where the drug table went on learning its parts."""
        table = getattr(self, "drugs", None)
        return table.learned_knowledge(knowledge) if isinstance(table, DrugTable) else knowledge

    def objective(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(logits, a further loss or None); override it when a paper adds a term of its own."""
        return self(batch), None


class NeuralRecommender(Recommender):
    """A recommender whose weights the shared training loop learns."""

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__(sizes, knowledge, config)
        torch.manual_seed(config.seed)
        self.network = self.build()

    @abc.abstractmethod
    def build(self) -> Network:
        """A fresh network for ``self.sizes``, ``self.knowledge`` and ``self.config``."""

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Train with recsys.experiments.train and keep the weights of the best validation epoch."""
        self.network.observe(train)
        with one_thread():
            fit_network(self.network, train, validation, self.config, self.knowledge, log=log, folder=folder,
                        resume=resume)
        self.knowledge = self.network.learned_knowledge(self.knowledge)

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """float32[N, K]."""
        return predict(self.network, visits)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state of the network, copied."""
        return {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Load the state into the network."""
        self.network.load_state_dict(tensors)
        self.network.eval()
