"""The towers, their temperatures and the fusion as one module, rebuilt from JSON beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embed.alignment.loss import LogitScale
from embed.config import PretrainConfig
from embed.encoders.base import Inputs
from embed.features.reduce import FIT_SEED
from embed.registry import ANCHOR, ENCODERS, FUSIONS
from embed.training.data import Batch, Dataset


class AlignmentModel(nn.Module):
    """One tower per name (the anchor first), one temperature per tower, and the fusion.

    ``towers`` maps a name to its keyword arguments; ``names`` is their order everywhere.
    """

    def __init__(self, width: int, towers: Mapping[str, Mapping[str, Any]], fusion: str, temperature: float) -> None:
        super().__init__()
        self.kwargs: dict[str, Any] = {
            "width": width, "towers": {name: dict(kwargs) for name, kwargs in towers.items()}, "fusion": fusion,
            "temperature": temperature,
        }
        self.width = width
        self.names = tuple(towers)
        self.towers = nn.ModuleDict({name: ENCODERS[name](width=width, **kwargs) for name, kwargs in towers.items()})
        self.scales = nn.ModuleDict({name: LogitScale(temperature) for name in towers})
        self.relation_scale = LogitScale(0.1)
        self.fusion = FUSIONS[fusion](len(towers), width)

    def encode(self, name: str, inputs: Inputs) -> Tensor:
        """The unit vectors (B, D) of one modality's inputs; under autocast only a tower that may runs in bf16."""
        tower = self.towers[name]
        if getattr(tower, "half_precision", False):
            z: Tensor = tower(inputs)
            return z
        with torch.autocast(self.relation_scale.log.device.type, enabled=False):
            z = tower(inputs)
        return z

    def forward(self, batch: Batch) -> Tensor:
        """The towers' unit vectors, (B, 1 + M, D); zero where ``batch.present`` says that there is none."""
        columns = []
        for name in self.names:
            where, inputs = batch.inputs[name]
            column = self.relation_scale.log.new_zeros(len(batch.drugs), self.width)
            if len(where):
                column = column.index_copy(0, where, self.encode(name, inputs).to(column.dtype))
            columns.append(column)
        return torch.stack(columns, 1)


def build_model(config: PretrainConfig, data: Dataset) -> AlignmentModel:
    """A new model whose towers fit the tables of ``data``; the same numbers for every seed."""
    torch.manual_seed(FIT_SEED)
    return AlignmentModel(config.width, {name: _kwargs(name, config, data) for name in data.tables},
                          config.train.fusion, config.loss.temperature)


def _kwargs(name: str, config: PretrainConfig, data: Dataset) -> dict[str, Any]:
    columns = data.tables[name].items.columns
    if name == ANCHOR:
        m = config.molecule
        return {
            "hidden": m.hidden, "depth": m.depth, "fragments": m.fragments, "fragment_depth": m.fragment_depth,
            "heads": m.heads, "fingerprint_width": columns["vector"].shape[1] if "vector" in columns else 0,
            "fingerprint_hidden": config.train.hidden, "dropout": config.train.dropout,
        }
    if name == "structure":
        s = config.structure
        return {"scalars": s.scalars, "vectors": s.vectors, "depth": s.depth, "cutoff": s.cutoff}
    return {"in_width": columns["vector"].shape[1], "hidden": config.train.hidden, "dropout": config.train.dropout}


def rebuild_model(kwargs: Mapping[str, Any], weights: Mapping[str, Tensor]) -> AlignmentModel:
    """The model that was saved with these keyword arguments and weights, in evaluation mode."""
    model = AlignmentModel(**kwargs)
    model.load_state_dict(dict(weights))
    return model.eval()


@torch.no_grad()
def embed_all(model: AlignmentModel, data: Dataset, rows: NDArray[np.int64] | None = None,
              batch_size: int = 1024) -> tuple[Tensor, Tensor, Tensor]:
    """``(z, fused, present)`` for every drug, or those at ``rows``: (N, 1 + M, D), (N, D) and (N, 1 + M), on the CPU.

    ``fused`` is zero where a drug has nothing at all.
    """
    was_training = model.training
    model.eval()
    wanted = torch.arange(len(data.drug_ids)) if rows is None else torch.from_numpy(rows)
    z = torch.zeros(len(wanted), len(model.names), model.width)
    fused = torch.zeros(len(wanted), model.width)
    present = torch.zeros(len(wanted), len(model.names), dtype=torch.bool)
    for start in range(0, len(wanted), batch_size):
        part = slice(start, start + batch_size)
        batch = data.batch(wanted[part])
        own = model(batch)
        z[part] = own.cpu()
        fused[part] = (model.fusion(own, batch.present) * batch.present.any(1, keepdim=True)).cpu()
        present[part] = batch.present.cpu()
    model.train(was_training)
    return z, fused, present
