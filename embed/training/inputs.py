"""From a corpus to the tensors that training reads: cached features, projections fitted on the training drugs, tables.

Nothing here is done in a training step. What depends only on one input (a parsed molecule, a frozen model's output) is
in the cache; what depends on which drugs train (means, singular vectors, IDF weights) is fitted here and returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embed.alignment.objective import Relation
from embed.config import PretrainConfig
from embed.features import descriptors, fingerprint, molecule, radius, reduce
from embed.features.cache import FeatureCache, sha256, version_of
from embed.features.frozen import FrozenModel
from embed.features.neighbourhood import neighbourhoods
from embed.features.packed import Packed, vectors
from embed.features.reduce import Matrix, Projection
from embed.registry import ANCHOR, IMAGE_MODELS, TEXT_MODELS
from embed.source import Corpus, Item
from embed.training import kge
from embed.training.data import Dataset, make_table
from embed.training.split import VERSION as SCAFFOLD_VERSION
from embed.training.split import DrugSplit, families, scaffolds, split_by_family

Position = NDArray[np.int64]


@dataclass
class Inputs:
    """A data set ready to train on, and what must be kept to treat a new input in the same way."""

    data: Dataset
    relations: list[Relation]
    projections: dict[str, Projection]
    identities: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, tuple[Matrix, Position]] = field(default_factory=dict)
    """Unit vectors (bits, for the molecule) by modality before any tower, and each drug's row in them or -1."""


@dataclass
class Workshop:
    """What the builders share: the corpus, the configuration, the cache, the device and the training rows."""

    corpus: Corpus
    config: PretrainConfig
    cache: FeatureCache
    device: torch.device
    train: Position
    projections: dict[str, Projection] = field(default_factory=dict)
    raw: dict[str, tuple[Matrix, Position]] = field(default_factory=dict)
    """Unit vectors by modality, before any tower: what the late fusion compares."""
    identities: dict[str, Any] = field(default_factory=dict)

    def fit_rows(self, position: Position) -> Position:
        """The item rows of the training drugs that have the modality."""
        rows = position[self.train]
        return np.unique(rows[rows >= 0])


def smiles_features(corpus: Corpus, cache: FeatureCache, encoder: str, version: str,
                    compute: Any) -> tuple[Position, Packed | None]:
    """``(position, items)`` of a featuriser of SMILES over all drugs, through the cache."""
    rows = [row for row, text in enumerate(corpus.smiles) if text]
    texts = [corpus.smiles[row] or "" for row in rows]

    def run(indices: list[int]) -> tuple[list[int], Packed]:
        done, items = compute([texts[i] for i in indices])
        return [indices[i] for i in done], items

    found, items = cache.get(encoder, version, [sha256(t) for t in texts], run)
    position = np.full(len(corpus.smiles), -1, np.int64)
    position[rows] = found
    return position, items


def split_corpus(corpus: Corpus, config: PretrainConfig, cache: FeatureCache) -> DrugSplit:
    """The scaffold split of a corpus under the configuration's seed and shares."""
    position, items = smiles_features(corpus, cache, "scaffold", SCAFFOLD_VERSION, scaffolds)
    digest = items.columns["scaffold"] if items is not None else np.zeros((0, 32), np.uint8)
    scaffold = [digest[p].tobytes() if p >= 0 else None for p in position]
    family = families(scaffold, corpus.blocks)
    return split_by_family(family, config.seed, config.train.validation, config.train.test)


def build_inputs(corpus: Corpus, config: PretrainConfig, cache: FeatureCache, device: torch.device,
                 train: Position) -> Inputs:
    """All tables of the configured modalities (the anchor first), with statistics fitted on the drugs ``train``."""
    shop = Workshop(corpus, config, cache, device, train)
    tables = {}
    for name in (ANCHOR, *config.modalities):
        built = BUILDERS[name](shop)
        if built is not None:
            items, position = built
            tables[name] = make_table(name, items, position, device)
    data = Dataset(corpus.drug_ids, tables, torch.from_numpy(substance_groups(corpus.blocks)).to(device))
    return Inputs(data, _relations(shop, tables), shop.projections, shop.identities, shop.raw)


def substance_groups(blocks: Sequence[str]) -> NDArray[np.int64]:
    """A number per drug, equal for drugs with the same InChIKey first block; a drug without one is alone."""
    names: dict[str, int] = {}
    return np.array([names.setdefault(block or f"#{row}", len(names)) for row, block in enumerate(blocks)], np.int64)


def _molecule(shop: Workshop) -> tuple[Packed, Position] | None:
    position, items = smiles_features(shop.corpus, shop.cache, ANCHOR, molecule.VERSION, molecule.featurise)
    if items is None:
        return None
    shop.identities[ANCHOR] = {"name": "gin-brics", "trained": "here", "featuriser": molecule.VERSION}
    m = shop.config.molecule
    if not m.fingerprint_bits:
        return items, position
    places, counts = smiles_features(shop.corpus, shop.cache, "morgan", fingerprint.version(m.fingerprint_bits),
                                     lambda texts: fingerprint.fingerprints(texts, m.fingerprint_bits))
    assert counts is not None  # the same SMILES parse
    table = counts.columns["vector"].astype(np.float32)
    shop.raw[ANCHOR] = ((table > 0).astype(np.float32), places)
    fitted = reduce.singular(table, shop.fit_rows(places), m.fingerprint_components, shop.config.seed, log=True)
    shop.projections[ANCHOR] = fitted
    reduced = fitted.apply(table)
    vector = np.zeros((items.n, reduced.shape[1]), np.float32)
    has = position >= 0
    vector[position[has]] = reduced[places[has]]
    return Packed(items.n, {**items.columns, "vector": vector}, items.indptr), position


def _encode(shop: Workshop, model: FrozenModel, kind: str, items: Sequence[Item]) -> tuple[Position, Matrix] | None:
    """``(position, matrix)``: each item's row of the frozen model's output, through the cache."""
    def run(indices: list[int]) -> tuple[list[int], Packed]:
        return indices, vectors(model.encode([items[i].content for i in indices]))

    keys = [item.sha256 for item in items]
    position, found = shop.cache.get(f"{kind}-{model.name}", model.version, keys, run)
    return None if found is None else (position, found.columns["vector"].astype(np.float32))


def _text(shop: Workshop) -> tuple[Packed, Position] | None:
    corpus = shop.corpus
    if not corpus.texts:
        return None
    model: FrozenModel = TEXT_MODELS[shop.config.text.model](shop.config.text, shop.device)
    shop.identities["text"] = model.identity
    encoded = _encode(shop, model, "text", corpus.texts)
    assert encoded is not None  # a text model has a vector for every text
    position, matrix = encoded
    # A drug's vector is the mean direction of its texts'.
    rows = np.array([item.row for item in corpus.texts], np.int64)
    known, owner = np.unique(rows, return_inverse=True)
    total = np.zeros((len(known), matrix.shape[1]), np.float32)
    np.add.at(total, owner, reduce.unit(matrix[position]))
    place = np.full(len(corpus.drug_ids), -1, np.int64)
    place[known] = np.arange(len(known))
    if model.identity["trained"] == "from scratch":
        fitted = reduce.singular(total, shop.fit_rows(place), 256, shop.config.seed)
    else:
        fitted = reduce.centre(total, shop.fit_rows(place))
    shop.projections["text"] = fitted
    vector = fitted.apply(total)
    shop.raw["text"] = (reduce.unit(vector), place)
    return vectors(vector), place


def _image(shop: Workshop) -> tuple[Packed, Position] | None:
    settings = shop.config.image
    items = list(shop.corpus.images())
    if settings.limit:
        items = items[:settings.limit]
    if not items:
        return None
    model: FrozenModel = IMAGE_MODELS[settings.model](settings, shop.device)
    shop.identities["image"] = model.identity
    encoded = _encode(shop, model, "image", items)
    assert encoded is not None
    position, matrix = encoded
    place = np.full(len(shop.corpus.drug_ids), -1, np.int64)
    place[[item.row for item in items]] = position
    fit = shop.fit_rows(place)
    fitted = (reduce.principal(matrix, fit, settings.components, shop.config.seed) if settings.components
              else reduce.standardise(matrix, fit))
    shop.projections["image"] = fitted
    vector = fitted.apply(matrix)
    shop.raw["image"] = (reduce.unit(vector), place)
    return vectors(vector), place


def _structure(shop: Workshop) -> tuple[Packed, Position] | None:
    s = shop.config.structure
    items = list(shop.corpus.conformers())

    def run(indices: list[int]) -> tuple[list[int], Packed]:
        done, graphs = radius.conformers([str(items[i].content) for i in indices], s.cutoff, s.neighbours, s.hydrogens)
        return [indices[i] for i in done], graphs

    version = version_of(version=radius.VERSION, cutoff=s.cutoff, neighbours=s.neighbours, hydrogens=s.hydrogens)
    position, found = shop.cache.get("radius-graph", version, [item.sha256 for item in items], run)
    if found is None:
        return None
    shop.identities["structure"] = {"name": "gvp", "trained": "here", "featuriser": version}
    place = np.full(len(shop.corpus.drug_ids), -1, np.int64)
    place[[item.row for item in items]] = position
    return found, place


def _property(shop: Workshop) -> tuple[Packed, Position] | None:
    values = shop.corpus.properties
    known = np.flatnonzero(np.isfinite(values).any(1)) if values.size else np.empty(0, np.int64)
    if not len(known):
        return None
    table = values[known].astype(np.float32)
    if shop.config.property.descriptors:
        position, items = smiles_features(shop.corpus, shop.cache, "descriptors", descriptors.VERSION,
                                          descriptors.descriptors)
        if items is not None:
            more = items.columns["vector"][position[known].clip(min=0)]
            table = np.concatenate([table, np.where(position[known, None] >= 0, more, np.nan)], 1)
    place = np.full(len(shop.corpus.drug_ids), -1, np.int64)
    place[known] = np.arange(len(known))
    p = shop.config.property
    fitted = reduce.standardise(table, shop.fit_rows(place), log=p.log, clip=p.clip)
    shop.projections["property"] = fitted
    shop.identities["property"] = {"name": "standardised", "columns": table.shape[1], "trained": "here"}
    vector = fitted.apply(table)
    shop.raw["property"] = (reduce.unit(np.nan_to_num(vector)), place)
    return vectors(vector), place


def _graph(shop: Workshop) -> tuple[Packed, Position] | None:
    triples, g = shop.corpus.triples, shop.config.graph
    if triples is None or not len(triples.head):
        return None
    drugs = len(shop.corpus.drug_ids)
    parts: list[tuple[Matrix, Position]] = []
    if "neighbourhood" in g.features:
        found = neighbourhoods(triples, *shop.corpus.linked, drugs, shop.train, second=g.second_step,
                               second_weight=g.second_weight)
        fitted = reduce.singular(found.matrix, shop.fit_rows(found.position), g.components, shop.config.seed)
        shop.projections["graph"] = fitted
        parts.append((fitted.apply(found.matrix), found.position))
        shop.identities["graph"] = {"name": "idf-neighbourhood", "features": found.matrix.shape[1], "trained": "here"}
    if "transe" in g.features:
        entities = kge.entity_vectors(triples, shop.config, shop.cache.root)
        shop.identities["graph.transe"] = entities.identity
        parts.append(kge.drug_vectors(entities, shop.corpus.linked, drugs))
    place = np.full(drugs, -1, np.int64)
    has = np.any([position >= 0 for _, position in parts], axis=0)
    place[has] = np.arange(int(has.sum()))
    joined = np.zeros((int(has.sum()), sum(matrix.shape[1] for matrix, _ in parts)), np.float32)
    column = 0
    for matrix, position in parts:
        own = position >= 0
        joined[place[own], column:column + matrix.shape[1]] = matrix[position[own]]
        column += matrix.shape[1]
    shop.raw["graph"] = (reduce.unit(parts[0][0]), parts[0][1])
    return vectors(joined), place


BUILDERS = {ANCHOR: _molecule, "image": _image, "text": _text, "structure": _structure, "property": _property,
            "graph": _graph}


def _relations(shop: Workshop, tables: dict[str, Any]) -> list[Relation]:
    """The raw modalities that the late fusion compares, standardised over the training drugs."""
    loss = shop.config.loss
    if not loss.relation:
        return []
    out = []
    for name, weight in zip(loss.relation_of, loss.relation_weights, strict=True):
        if name not in shop.raw or name not in tables:
            continue
        matrix, place = shop.raw[name]
        one = Relation(torch.from_numpy(matrix).to(shop.device), torch.from_numpy(place).to(shop.device),
                       tanimoto=name == ANCHOR, weight=weight)
        one.standardise(torch.from_numpy(shop.train).to(shop.device))
        out.append(one)
    return out
