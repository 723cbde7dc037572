"""From a corpus to the tensors that the towers read: cached features, fitted projections, tables.

Nothing here is done in a training step. What depends only on one input (a parsed molecule, a frozen model's output) is
in the cache; what depends on which drugs train (means, singular vectors, IDF weights) is fitted once and kept with the
run (``Fitted``). Training and every later encoding of a drug go through the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from embed.alignment.objective import Relation
from embed.config import PretrainConfig
from embed.features import descriptors, fingerprint, molecule, radius, reduce
from embed.features.cache import FeatureCache, Features, sha256, version_of
from embed.features.fitted import Fitted
from embed.features.frozen import FrozenModel
from embed.features.masking import masked
from embed.features.neighbourhood import fit_vocabulary, neighbourhoods
from embed.features.packed import Packed, vectors
from embed.features.reduce import Matrix, Projection
from embed.features.work import frozen_chunks, molecule_chunks
from embed.registry import ANCHOR, IMAGE_MODELS, TEXT_MODELS
from embed.source import Corpus, Payloads
from embed.training import kge
from embed.training.data import Dataset, make_table, no_table
from embed.training.split import scaffold_features

Position = NDArray[np.int64]
CPU = torch.device("cpu")
FIT = 20_000
"""Statistics and singular vectors are fitted on at most this many training drugs."""


@dataclass
class Inputs:
    """A data set ready for the towers, and what was fitted to make it."""

    data: Dataset
    relations: list[Relation]
    fitted: Fitted
    raw: dict[str, tuple[NDArray[Any], Position]] = field(default_factory=dict)
    """Features by modality before any tower (packed bits for the molecule), and each drug's row in them or -1."""

    def raw_of(self, rows: Position) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]:
        """By modality the features (n, F) of the drugs at ``rows``, zero where there are none, and who has any (n,)."""
        out = {}
        for name, (matrix, place) in self.raw.items():
            at = place[rows]
            picked = matrix[at.clip(min=0)] if len(matrix) else np.zeros((len(rows), 0), np.float32)
            out[name] = (np.where((at >= 0)[:, None], picked, 0).astype(matrix.dtype), at >= 0)
        return out


@dataclass
class Workshop:
    """What the builders share: the corpus, the configuration, the cache, the device and the training rows."""

    corpus: Corpus
    config: PretrainConfig
    cache: FeatureCache
    device: torch.device
    train: Position
    fitted: Fitted
    raw: dict[str, tuple[NDArray[Any], Position]] = field(default_factory=dict)

    def fit_rows(self, position: Position, most: int = 0) -> Position:
        """The item rows of (at most ``most`` of) the training drugs that have the modality."""
        rows = position[self.train]
        rows = np.unique(rows[rows >= 0])
        if most and len(rows) > most:
            rows = np.sort(np.random.default_rng(reduce.FIT_SEED).permutation(rows)[:most])
        return rows

    def smiles_features(self, encoder: str, version: str, function: str, settings: dict[str, Any]) -> Features:
        """A featuriser of SMILES over all drugs that have one; ``position`` is per drug."""
        rows = np.array([row for row, text in enumerate(self.corpus.smiles) if text], np.int64)
        texts = [self.corpus.smiles[row] or "" for row in rows]
        chunks = molecule_chunks(function, settings, lambda indices: [texts[i] for i in indices])
        found = self.cache.open(encoder, version, [sha256(t) for t in texts], chunks)
        position = np.full(len(self.corpus), -1, np.int64)
        position[rows] = found.position
        found.position = position
        return found


def build_inputs(corpus: Corpus, config: PretrainConfig, cache: FeatureCache, device: torch.device,
                 train: Position, fitted: Fitted | None = None, *, names: Sequence[str] | None = None,
                 only: Sequence[str] | None = None) -> Inputs:
    """All tables of the configured modalities that any drug has (the anchor first).

    Statistics come from ``fitted``, or are fitted on the drugs ``train``. With ``names`` exactly these modalities have
    a table, even one that no drug of the corpus has; with ``only`` the others of them stay empty.
    """
    shop = Workshop(corpus, config, cache, device, train, fitted or Fitted())
    tables = {}
    for name in (ANCHOR, *config.modalities) if names is None else names:
        built = BUILDERS[name](shop) if only is None or name in only else None
        if built is not None:
            tables[name] = make_table(name, *built, device)
            del built  # or two modalities' items would be in memory at once
        elif names is not None:
            tables[name] = no_table(len(corpus), device)
    data = Dataset(corpus.drug_ids, tables, torch.from_numpy(substance_groups(corpus.blocks)).to(device))
    relations = _relations(shop, tables) if len(train) else []
    return Inputs(data, relations, shop.fitted, shop.raw)


def substance_groups(blocks: Sequence[str]) -> NDArray[np.int64]:
    """A number per drug, equal for drugs with the same InChIKey first block; a drug without one is alone."""
    names: dict[str, int] = {}
    return np.array([names.setdefault(block or f"#{row}", len(names)) for row, block in enumerate(blocks)], np.int64)


def compute_features(corpus: Corpus, config: PretrainConfig, cache: FeatureCache, device: torch.device) -> None:
    """Have the cache hold all that depends on one drug alone, for the drugs of the corpus; none of it is read here."""
    shop = Workshop(corpus, config, cache, device, np.empty(0, np.int64), Fitted())
    scaffold_features([text for text in corpus.smiles if text], cache)
    _graphs(shop)
    if config.molecule.fingerprint_bits:
        morgan(shop)
    if "image" in config.modalities and not config.image.limit:  # of a part of the drugs others would be the first
        _pictures(shop)
    if "text" in config.modalities and len(corpus.texts):
        encoded_texts(shop, frozen_text(shop))
    if "structure" in config.modalities:
        _conformers(shop)
    if "property" in config.modalities and config.property.descriptors:
        _descriptors(shop)


def _graphs(shop: Workshop) -> Features:
    return shop.smiles_features(ANCHOR, molecule.VERSION, "embed.features.molecule:featurise", {})


def _molecule(shop: Workshop) -> tuple[Packed, Position] | None:
    found = _graphs(shop)
    items = found.all()
    if items is None:
        return None
    position = found.position
    shop.fitted.identify(ANCHOR, {"name": "gin-brics", "trained": "here", "featuriser": molecule.VERSION})
    bits = shop.config.molecule.fingerprint_bits
    if not bits:
        return items, position
    prints = morgan(shop)
    whole = prints.all()
    assert whole is not None  # the same SMILES parse
    places = prints.position
    shop.raw[ANCHOR] = (fingerprint.packed_bits(whole, bits), places)
    rows = fingerprint.log_counts(whole, bits)
    count = shop.config.molecule.fingerprint_components
    fitted = shop.fitted.projection(
        ANCHOR, lambda: reduce.singular(rows, shop.fit_rows(places, FIT), count, reduce.FIT_SEED))
    # The fingerprint of each item: both caches have an order of their own, and sparse rows cost least to move.
    own = np.zeros(items.n, np.int64)
    has = position >= 0
    own[position[has]] = places[has]
    vector = fitted.apply(rows[own] if fitted.sparse else fingerprint.counts(whole, bits)[own])
    return Packed(items.n, {**items.columns, "vector": vector}, items.indptr), position


def morgan(shop: Workshop) -> Features:
    """The circular substructures of all drugs with a structure."""
    bits = shop.config.molecule.fingerprint_bits
    return shop.smiles_features("morgan", fingerprint.version(bits), "embed.features.fingerprint:fingerprints",
                                {"bits": bits})


def encoded(shop: Workshop, model: FrozenModel, kind: str, items: Payloads) -> Features:
    """The frozen model's output for each payload, through the cache."""
    chunks = frozen_chunks(kind, getattr(shop.config, kind), model, shop.device, items.load)
    return shop.cache.open(f"{kind}-{model.name}", model.version, items.keys(), chunks)


def frozen_text(shop: Workshop) -> FrozenModel:
    """The text model of the configuration, recorded (or checked) as the run's."""
    model: FrozenModel = TEXT_MODELS[shop.config.text.model](shop.config.text, shop.device)
    shop.fitted.identify("text", model.identity)
    return model


def encoded_texts(shop: Workshop, model: FrozenModel) -> tuple[Payloads, Features]:
    """The texts of the corpus, masked where the configuration says so, and the model's vector of each."""
    texts = masked(shop.corpus.texts) if shop.config.text.mask else shop.corpus.texts
    return texts, encoded(shop, model, "text", texts)


def mean_texts(shop: Workshop, model: FrozenModel) -> tuple[Matrix, Position]:
    """``(total, place)``: the sum of the directions of each drug's texts, and each drug's row in it or -1."""
    texts, features = encoded_texts(shop, model)
    known, owner = np.unique(texts.row, return_inverse=True)
    order = np.argsort(features.position, kind="stable")
    place = np.full(len(shop.corpus), -1, np.int64)
    place[known] = np.arange(len(known))
    total: Matrix | None = None
    sorted_position = features.position[order]
    for start, batch in features.batches():
        matrix = reduce.unit(batch.columns["vector"].astype(np.float32))
        total = np.zeros((len(known), matrix.shape[1]), np.float32) if total is None else total
        inside = slice(*np.searchsorted(sorted_position, [start, start + batch.n]))
        np.add.at(total, owner[order[inside]], matrix[sorted_position[inside] - start])
    assert total is not None  # a text model has a vector for every text
    return total, place


def _text(shop: Workshop) -> tuple[Packed, Position] | None:
    if not len(shop.corpus.texts):
        return None
    model = frozen_text(shop)
    total, place = mean_texts(shop, model)

    def fit() -> Projection:
        if model.identity["trained"] == "from scratch":
            return reduce.singular(total, shop.fit_rows(place, FIT), 256, reduce.FIT_SEED)
        return reduce.centre(total, shop.fit_rows(place))

    vector = shop.fitted.projection("text", fit).apply(total)
    shop.raw["text"] = (vector, place)
    return vectors(vector), place


def _pictures(shop: Workshop) -> tuple[Payloads, Features] | None:
    """The pictures of the corpus, or the first of them, and the frozen model's vector of each; None without any."""
    settings, images = shop.config.image, shop.corpus.images
    if settings.limit:
        images = images.first(settings.limit)
    if not len(images):
        return None
    model: FrozenModel = IMAGE_MODELS[settings.model](settings, shop.device)
    shop.fitted.identify("image", model.identity)
    return images, encoded(shop, model, "image", images)


def _image(shop: Workshop) -> tuple[Packed, Position] | None:
    settings, found = shop.config.image, _pictures(shop)
    if found is None:
        return None
    images, features = found
    place = np.full(len(shop.corpus), -1, np.int64)
    place[images.row] = features.position

    def fit() -> Projection:
        rows = shop.fit_rows(place, FIT)
        sample = features.take(rows).columns["vector"].astype(np.float32)
        everything = np.arange(len(sample))
        return (reduce.principal(sample, everything, settings.components, reduce.FIT_SEED) if settings.components
                else reduce.standardise_columns(sample, everything))

    projection = shop.fitted.projection("image", fit)
    vector = np.empty((features.n, projection.width), np.float32)
    for start, batch in features.batches():
        vector[start:start + batch.n] = projection.apply(batch.columns["vector"].astype(np.float32))
    shop.raw["image"] = (vector, place)
    return vectors(vector), place


def _conformers(shop: Workshop) -> tuple[str, Features]:
    """``(version, features)``: the graphs of the conformers, and of what kind they are."""
    s, items = shop.config.structure, shop.corpus.conformers
    settings = {"cutoff": s.cutoff, "most": s.neighbours, "hydrogens": s.hydrogens}
    version = version_of(version=radius.VERSION, cutoff=s.cutoff, neighbours=s.neighbours, hydrogens=s.hydrogens)
    chunks = molecule_chunks("embed.features.radius:conformer_graphs", settings,
                             lambda indices: [str(block) for block in items.load(indices)])
    return version, shop.cache.open("radius-graph", version, items.keys(), chunks)


def _structure(shop: Workshop) -> tuple[Packed, Position] | None:
    version, features = _conformers(shop)
    found = features.all()
    if found is None:
        return None
    shop.fitted.identify("structure", {"name": "gvp", "trained": "here", "featuriser": version})
    place = np.full(len(shop.corpus), -1, np.int64)
    place[shop.corpus.conformers.row] = features.position
    return found, place


def _property(shop: Workshop) -> tuple[Packed, Position] | None:
    names = shop.fitted.properties
    if names is None:
        names = shop.fitted.properties = list(shop.corpus.property_names)
    column = {name: k for k, name in enumerate(shop.corpus.property_names)}
    values = np.full((len(shop.corpus), len(names)), np.nan, np.float32)
    for k, name in enumerate(names):
        if name in column:
            values[:, k] = shop.corpus.properties[:, column[name]]
    known = np.flatnonzero(np.isfinite(values).any(1))
    if not len(known):
        return None
    table = values[known]
    if shop.config.property.descriptors:
        table = _with_descriptors(shop, table, known)
    place = np.full(len(shop.corpus), -1, np.int64)
    place[known] = np.arange(len(known))
    p = shop.config.property
    fitted = shop.fitted.projection(
        "property", lambda: reduce.standardise_columns(table, shop.fit_rows(place, FIT), log=p.log, clip=p.clip))
    shop.fitted.identify("property", {"name": "standardised", "columns": table.shape[1], "trained": "here",
                                      "featuriser": descriptors.VERSION if p.descriptors else "none"})
    vector = fitted.apply(table)
    shop.raw["property"] = (vector, place)
    return vectors(vector), place


def _descriptors(shop: Workshop) -> Features:
    return shop.smiles_features("descriptors", descriptors.VERSION, "embed.features.descriptors:descriptors", {})


def _with_descriptors(shop: Workshop, table: Matrix, known: Position) -> Matrix:
    """The table with RDKit's descriptors beside it; NaN for a drug without a structure."""
    found = _descriptors(shop)
    out = np.full((len(table), table.shape[1] + len(descriptors.descriptor_names())), np.nan, np.float32)
    out[:, :table.shape[1]] = table
    order = np.argsort(found.position[known], kind="stable")
    at = found.position[known][order]
    for start, batch in found.batches():
        inside = slice(*np.searchsorted(at, [start, start + batch.n]))
        out[order[inside], table.shape[1]:] = batch.columns["vector"][at[inside] - start]
    return out


def _graph(shop: Workshop) -> tuple[Packed, Position] | None:
    triples, g, fitted = shop.corpus.triples, shop.config.graph, shop.fitted
    if triples is None or not len(triples.head):
        return None
    drugs = len(shop.corpus)
    parts: list[tuple[Matrix, Position]] = []
    if "neighbourhood" in g.features:
        matrix, position = _neighbourhood(shop)
        if fitted.closed and "graph" not in fitted.projections:
            return None  # the run saw no graph
        projection = fitted.projection(
            "graph", lambda: reduce.singular(matrix, shop.fit_rows(position, FIT), g.components, reduce.FIT_SEED))
        parts.append((projection.apply(matrix), position))
        fitted.identify("graph", {"name": "idf-neighbourhood", "features": matrix.shape[1], "trained": "here"})
    if "transe" in g.features:
        if fitted.entities is None:
            fitted._require_open("the graph's entity vectors")
            fitted.entities = kge.entity_vectors(triples, shop.config, shop.cache.root, shop.device)
        own, position, fitted.entities = kge.drug_vectors(fitted.entities, triples.entities, shop.corpus.linked, drugs,
                                                          shop.train)
        fitted.identify("graph.transe", fitted.entities.identity)
        parts.append((own, position))
    place = np.full(drugs, -1, np.int64)
    has = np.any([position >= 0 for _, position in parts], axis=0)
    place[has] = np.arange(int(has.sum()))
    joined = np.zeros((int(has.sum()), sum(matrix.shape[1] for matrix, _ in parts)), np.float32)
    column = 0
    for matrix, position in parts:
        own_rows = position >= 0
        joined[place[own_rows], column:column + matrix.shape[1]] = matrix[position[own_rows]]
        column += matrix.shape[1]
    shop.raw["graph"] = (joined[:, :parts[0][0].shape[1]], np.where(parts[0][1] >= 0, place, -1))
    return vectors(joined), place


def _neighbourhood(shop: Workshop) -> tuple[csr_array, Position]:
    """The drugs' neighbourhoods in the run's vocabulary, which is fitted here before training begins."""
    triples, g, fitted = shop.corpus.triples, shop.config.graph, shop.fitted
    assert triples is not None
    if fitted.vocabulary is None:
        fitted._require_open("the graph's vocabulary")
        fitted.vocabulary = fit_vocabulary(triples, shop.corpus.linked, len(shop.corpus), shop.train,
                                           second=g.second_step)
    found = neighbourhoods(fitted.vocabulary, triples, shop.corpus.linked, len(shop.corpus), second=g.second_step,
                           second_weight=g.second_weight)
    return found.matrix, found.position


Builder = Callable[[Workshop], tuple[Packed, Position] | None]
BUILDERS: dict[str, Builder] = {ANCHOR: _molecule, "image": _image, "text": _text, "structure": _structure,
                                "property": _property, "graph": _graph}


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
        train = torch.from_numpy(shop.train).to(shop.device)
        one.mean, one.spread = shop.fitted.spread(name, lambda one=one, train=train: one.distribution(train))  # type: ignore[misc]
        out.append(one)
    return out
