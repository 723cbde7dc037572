"""Takes, at the end of a run, how near its training drugs lie to each other (``embed.search.unusual``)."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from embed.config import PretrainConfig
from embed.features.cache import FeatureCache, sha256
from embed.features.reduce import unit
from embed.features.work import frozen_chunks
from embed.registry import ANCHOR
from embed.search.unusual import MOST, Reference, make
from embed.source import Corpus
from embed.training.inputs import CPU, Inputs, Workshop, frozen_text, mean_texts

SENTENCES = 500
"""Training drugs of which one sentence is taken."""
LONG = 40
"""Letters that a sentence has at least."""


def take_reference(corpus: Corpus, inputs: Inputs, config: PretrainConfig, cache: FeatureCache,
                   train: NDArray[np.int64]) -> Reference:
    """The reference of a run's training drugs."""
    bits, group = np.zeros((0, 256), np.uint8), np.empty(0, np.int64)
    if ANCHOR in inputs.raw:
        matrix, place = inputs.raw[ANCHOR]
        rows = train[place[train] >= 0][:MOST]
        bits, group = matrix[place[rows]], inputs.data.group.cpu().numpy()[rows]
    texts, sentences = np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)
    owner: list[int] = []
    if "text" in inputs.data.tables and len(corpus.texts):
        texts, sentences, owner = _texts(corpus, inputs, config, cache, train)
    return make(bits, group, texts, sentences, owner)


def _texts(corpus: Corpus, inputs: Inputs, config: PretrainConfig, cache: FeatureCache, train: NDArray[np.int64],
           ) -> tuple[NDArray[np.float32], NDArray[np.float32], list[int]]:
    shop = Workshop(corpus, config, cache, CPU, train, inputs.fitted)
    model = frozen_text(shop)
    total, place = mean_texts(shop, model)
    rows = train[place[train] >= 0][:MOST]
    number = {int(row): k for k, row in enumerate(rows)}
    asked = np.sort(np.random.default_rng(config.seed).permutation(rows)[:SENTENCES])
    first = np.searchsorted(corpus.texts.row, asked)
    chosen, owner = [], []
    for row, content in zip(asked, corpus.texts.load(first.tolist()), strict=True):
        found = [part for part in re.split(r"(?<=[.;])\s+", str(content)) if len(part) >= LONG]
        if found:
            chosen.append(found[0])
            owner.append(number[int(row)])

    chunks = frozen_chunks("text", config.text, model, CPU, lambda indices: [chosen[i] for i in indices])
    features = cache.open(f"text-{model.name}", model.version, [sha256(text) for text in chosen], chunks)
    items = features.all()
    sentences = unit(items.columns["vector"][features.position].astype(np.float32)) if items is not None else (
        np.zeros((0, total.shape[1]), np.float32))
    return unit(total[place[rows]]), sentences, owner
