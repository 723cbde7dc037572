"""The drug table that goes on learning: molecules through the embedding run's own encoder and fusion, once a step.

``frozen=false, encoder=true``. All molecules of all medications are one graph; each training step encodes it once, puts
the result in the place of the published molecule vectors, fuses it with the other modalities' published vectors, and
averages over each medication's drugs: at the first step exactly the published vectors. Outside training the last
encoding is kept as a plain table, so that a recommendation costs what it costs with frozen vectors.

What is learned is the difference to the published weights, so weight decay pulls back to them and not to zero (L2-SP,
Li et al., ICML 2018); RATE makes its steps smaller than those of the weights that begin at random. The encoder's
dropout is off: with one encoding a step it would be one draw for all visits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from embed.registry import ANCHOR, ENCODERS
from embed.training.data import make_table
from kb.errors import ConfigError
from recsys.experiments.config import Config
from recsys.knowledge.composition import Composition, joined_vectors
from recsys.knowledge.table import Knowledge
from recsys.recommenders.layers import DrugTable

RATE = 0.1
"""Size of the encoder's and the fusion's steps, as a share of the learning rate."""


class Tuned(nn.Module):
    """A pretrained module in evaluation mode with ``weights + RATE · learned difference``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval().requires_grad_(False)
        # a ParameterDict takes no dots in its keys
        self.change = nn.ParameterDict({name.replace(".", "/"): nn.Parameter(torch.zeros_like(value))
                                        for name, value in module.named_parameters()})

    def train(self, mode: bool = True) -> Tuned:
        """The module itself stays in evaluation mode."""
        super().train(mode)
        self.module.eval()
        return self

    def weights(self) -> dict[str, Tensor]:
        """The weights as they are now, by name."""
        return {name: value + RATE * self.change[name.replace(".", "/")]
                for name, value in self.module.named_parameters()}

    def forward(self, *inputs: Any) -> Tensor:
        """What the module gives."""
        out: Tensor = functional_call(self.module, self.weights(), inputs)
        return out


class EncodedTable(DrugTable):
    """As DrugTable, with published vectors that are encoded anew in every training step."""

    z: Tensor
    present: Tensor
    medication: Tensor
    drug: Tensor

    def __init__(self, knowledge: Knowledge, dim: int) -> None:
        super().__init__(knowledge, dim, frozen=True)
        parts = knowledge.composition
        if parts is None or parts.tower is None:
            raise ConfigError("encoder=true needs the weights of the published embedding run on this disk",
                              hint="mkmed embed pretrain, or --set encoder=false")
        self.parts: Composition = parts
        module: nn.Module = ENCODERS[ANCHOR](**parts.tower.kwargs)
        module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in parts.tower.weights.items()})
        self.encoder, self.fusion = Tuned(module), Tuned(parts.fresh_fusion())
        for name in ("z", "present", "medication", "drug"):
            self.register_buffer(name, torch.from_numpy(getattr(parts, name).copy()), persistent=False)
        self.column = parts.names.index(ANCHOR)
        self.encoded = torch.from_numpy(parts.tower.drugs.copy())
        self.inputs = None
        if parts.tower.items is not None:
            everything = torch.arange(parts.tower.items.n)
            table = make_table(ANCHOR, parts.tower.items, everything.numpy(), torch.device("cpu"))
            self.inputs = table.inputs(everything)[1]
        self._weight: Tensor | None = None
        if isinstance(part := getattr(module, "attention", None), nn.Module):
            part.register_forward_hook(self._notice)

    def _notice(self, _module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        self._weight = output[1].detach()

    @property
    def attention(self) -> Tensor | None:
        """float32[molecules, S]: how much each molecule took from each of its fragments when last encoded, or None."""
        if self._weight is None or self.inputs is None:
            return None
        molecule = self.inputs["fragment_molecule"]
        count = torch.bincount(molecule, minlength=len(self.encoded))
        place = torch.arange(len(molecule)) - (count.cumsum(0) - count)[molecule]
        padded = torch.zeros(len(count), int(count.max()))
        return padded.index_put((molecule, place), self._weight)

    def encode(self) -> Tensor:
        """[K, D]: the medications' vectors by the encoder and the fusion as they are now."""
        return joined_vectors(self.fusion, self._z(), self.present, self.medication, self.drug, self.parts.size)

    def _z(self) -> Tensor:
        column = torch.full_like(self.encoded, self.column)
        return self.z.index_put((self.encoded, column), self.encoder(self.inputs))

    def rows(self) -> Tensor:
        """[K, D of the store]: encoded while gradients are wanted, else as last encoded."""
        vectors = self.encode() if self.training and torch.is_grad_enabled() else self.vectors
        return vectors.index_copy(0, self.unknown, self.learned) if len(self.unknown) else vectors

    def train(self, mode: bool = True) -> EncodedTable:
        """Leaving training keeps what the encoder gives now; a loaded table has its inputs no more, but its vectors."""
        leaving = self.training and not mode and self.inputs is not None
        super().train(mode)
        if leaving:
            with torch.no_grad():
                self.vectors.copy_(self.encode())
        return self

    @torch.no_grad()
    def learned_knowledge(self, knowledge: Knowledge) -> Knowledge:
        """The knowledge with vectors and composition as they were learned: what explanations must leave out of."""
        weights = {name: value.numpy().copy() for name, value in self.fusion.weights().items()}
        z = self.parts.z if self.inputs is None else self._z().numpy().copy()
        return replace(knowledge, vectors=self.vectors.numpy().copy(),
                       composition=replace(self.parts, z=z, weights=weights))


def drug_table(knowledge: Knowledge, config: Config) -> DrugTable:
    """The table that the configuration asks for: frozen, learned vector by vector, or encoded."""
    if config.encoder:
        return EncodedTable(knowledge, config.dim)
    return DrugTable(knowledge, config.dim, frozen=config.frozen)
