"""A finished run's way from a text to vectors, without torch: a question by words should not wait for its import."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embed import source
from embed.config import PretrainConfig
from embed.features import bert
from embed.features.cache import FeatureCache
from embed.features.fitted import Fitted
from embed.features.frozen import FrozenModel
from embed.features.packed import Packed, vectors
from embed.features.reduce import unit
from embed.registry import ENCODERS, TEXT_MODELS
from embed.runs.artefact import Artefact
from embed.source import Payloads
from kb.errors import UsageError

Vectors = NDArray[np.float32]
FEW = 16
"""Up to this many texts are encoded without torch."""
TOWER = frozenset({"body.1.weight", "body.1.bias", "body.2.weight", "body.2.bias", "head.weight", "head.bias",
                   "skip.weight", "skip.bias"})
"""The weights of ``embed.encoders.base.VectorTower``, which is the text tower unless a plug-in put another there."""
EPS = 1e-5
"""Of torch's layer normalisation."""


class TextEmbedder:
    """The text part of a run: the frozen sentence encoder and the text tower.

    Raises UsageError for a run without a text tower. ``cache`` keeps sentence vectors between calls.
    """

    def __init__(self, run: Artefact, cache: FeatureCache | None = None) -> None:
        self.artefact = run
        self.config: PretrainConfig = run.config()
        self.cache = cache or FeatureCache(None)
        self.weights, self.arguments = run.weights()
        if "text" not in self.arguments["towers"]:
            raise UsageError("this run has no text tower", hint=f"it has: {', '.join(self.arguments['towers'])}")

    @cached_property
    def fitted(self) -> Fitted:
        """What was fitted on the training drugs."""
        return self.artefact.fitted()

    @cached_property
    def model(self) -> FrozenModel:
        """The frozen sentence encoder, checked to be the run's own."""
        model: FrozenModel = TEXT_MODELS[self.config.text.model](self.config.text, None)
        self.fitted.identify("text", model.identity)
        return model

    def sentences(self, texts: Sequence[str]) -> Vectors:
        """The frozen sentence encoder's vectors (n, F) of texts; those that the cache has are not computed again."""
        return self.sentence_features(source.held(range(len(texts)), list(texts)))

    def sentence_features(self, texts: Payloads) -> Vectors:
        """The frozen sentence encoder's vectors (n, F) of the texts of drugs."""
        model = self.model

        def run(indices: list[int]) -> tuple[list[int], Packed]:
            encode = model.encode_few if len(indices) <= FEW else model.encode
            return indices, vectors(encode([str(text) for text in texts.load(indices)]))

        position, found = self.cache.get(f"text-{model.name}", model.version, texts.keys(), run)
        if found is None:
            return np.zeros((0, 0), np.float32)
        kept: Vectors = found.columns["vector"][position].astype(np.float32)
        return kept

    def aligned(self, sentences: Vectors) -> Vectors:
        """The text tower's unit vectors (n, D) of the sentence encoder's."""
        x = self.fitted.projections["text"].apply(sentences)
        own = {name.removeprefix("towers.text."): value for name, value in self.weights.items()
               if name.startswith("towers.text.")}
        if set(own) != TOWER:
            return self._by_torch(own, x)
        hidden = bert.gelu(bert.layer_norm(bert.linear(x, own, "body.1"), own, "body.2", EPS))
        return unit(bert.linear(hidden, own, "head") + bert.linear(x, own, "skip"))

    def _by_torch(self, own: dict[str, NDArray[np.float32]], x: Vectors) -> Vectors:
        """The same through a tower of another kind."""
        import torch

        tower = ENCODERS["text"](width=self.arguments["width"], **self.arguments["towers"]["text"]).eval()
        tower.load_state_dict({name: torch.from_numpy(value) for name, value in own.items()})
        with torch.no_grad():
            out: Vectors = tower({"vector": torch.from_numpy(x)}).numpy()
        return out
