"""On the whole bundled corpus: masks say what the tables hold, no edge says an answer, no scaffold is on two sides."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles
from sqlalchemy import text

from embed.config import load_config
from embed.evaluation.columns import UNTREATED, column_config
from embed.evaluation.labels import read_labels
from embed.features.cache import FeatureCache
from embed.features.masking import mask
from embed.source import read_corpus
from embed.training.inputs import build_inputs
from embed.training.split import sides, split_corpus
from kb.ingest.engine import ingest
from kb.settings import Settings
from kb.sources.contract import IngestOptions

pytestmark = pytest.mark.slow
CONFIG = load_config(sets=["text.model=scratch", "modalities=text,structure,property,graph", "graph.components=8",
                           "graph.features=neighbourhood", "molecule.fingerprint_bits=0", "property.descriptors=false"])
LABELS = ("Atc::", "Pharmacologic Class::", "Chemical Substance::")


def corpus_of(engine, config=CONFIG):
    return read_corpus(engine, exclude_types=config.graph.exclude_types, exclude_relations=config.graph.exclude)


@pytest.fixture(scope="module")
def filled(database):
    ingest(database, Settings(workers=2), "corpus", IngestOptions())
    return database


@pytest.fixture(scope="module")
def corpus(filled):
    return corpus_of(filled)


@pytest.fixture(scope="module")
def split(corpus):
    return split_corpus(corpus, CONFIG, FeatureCache(None))


@pytest.fixture(scope="module")
def inputs(corpus, split, tmp_path_factory):
    return build_inputs(corpus, CONFIG, FeatureCache(tmp_path_factory.mktemp("cache")), torch.device("cpu"), split.train)


IDS = {
    "molecule": "SELECT id FROM mkmed.drug WHERE smiles IS NOT NULL",
    "text": "SELECT drug_id FROM mkmed.text",
    "structure": "SELECT drug_id FROM mkmed.conformer",
    "property": "SELECT drug_id FROM mkmed.property_set",
    "graph": "SELECT l.drug_id FROM mkmed.drug_entity l JOIN mkmed.kg_triple t ON l.entity_id IN (t.head, t.tail)",
}


def test_the_masks_are_what_the_tables_hold(filled, corpus, inputs):
    present = dict(zip(inputs.data.tables, inputs.data.present.numpy().T, strict=True))
    assert set(present) == set(IDS)
    for name, query in IDS.items():
        with filled.connect() as connection:
            told = np.isin(corpus.drug_ids, connection.scalars(text(query)).all())
        extra, missing = int((present[name] & ~told).sum()), int((told & ~present[name]).sum())
        assert extra == 0, name
        # The towers leave out what RDKit cannot read, and the graph drugs that only labels or rare entities tie.
        assert missing <= (0.15 if name == "graph" else 0.01) * told.sum(), (name, missing, int(told.sum()))
        assert present[name].sum() > 500, name
    assert (corpus.has_anything() >= inputs.data.present.numpy().any(1)).all()


def test_no_edge_says_an_answer(filled, corpus, inputs):
    kinds = {corpus.triples.entity_types[i] for i in np.union1d(corpus.triples.head, corpus.triples.tail)}
    assert not kinds & {"Atc", "Pharmacologic Class", "Chemical Substance"}
    assert {"Gene", "Disease"} <= kinds
    names = inputs.fitted.vocabulary.state()
    words = " ".join(bytes(names[key]).decode(errors="replace") for key in names if names[key].dtype == np.uint8)
    assert not [label for label in LABELS if label in words]

    untreated = corpus_of(filled, column_config(CONFIG, UNTREATED)).triples
    with filled.connect() as connection:
        said = set(connection.execute(text(
            "SELECT l.drug_id, t.tail FROM mkmed.indications i JOIN mkmed.drug_entity l USING (drug_id)"
            " JOIN mkmed.kg_triple t ON t.head = l.entity_id JOIN mkmed.kg_entity e ON e.id = t.tail"
            " JOIN mkmed.kg_relation r ON r.id = t.relation"
            " WHERE e.type = 'Disease' AND r.name ~* 'treat|indicat'")).all())
    assert said, "the corpus has such edges"
    left = {untreated.relations[k] for k in np.unique(untreated.relation)}
    assert not [name for name in left if re.search("treat|(?<!contra)indicat", name, re.IGNORECASE)]
    assert len(untreated.head) < len(corpus.triples.head)
    given = read_labels(filled, corpus.drug_ids).indications
    entity_ids = set(given[:, 1].tolist())
    linked = defaultdict(set)
    for row, at in zip(*(part.tolist() for part in corpus.linked), strict=True):
        linked[at].add(row)
    told = {(row, int(tail)) for head, tail in zip(untreated.head.tolist(), untreated.tail.tolist(), strict=True)
            if tail in entity_ids for row in linked.get(head, ())}
    pairs = {(int(a), int(b)) for a, b in given}
    assert len(told & pairs) <= 0.02 * len(pairs), "hardly an indication is said by another edge between the two"


def test_no_scaffold_and_no_substance_is_on_two_sides(corpus, split):
    side = sides(split, len(corpus))
    rings, blocks = defaultdict(set), defaultdict(set)
    for row, smiles in enumerate(corpus.smiles):
        if side[row] >= 0 and corpus.blocks[row]:
            blocks[corpus.blocks[row]].add(int(side[row]))
        if smiles and side[row] >= 0 and (mol := Chem.MolFromSmiles(smiles)) is not None:
            ring = MurckoScaffoldSmiles(mol=mol)
            if ring:
                rings[ring].add(int(side[row]))
    assert len(rings) > 2_000
    assert [name for name, own in {**rings, **blocks}.items() if len(own) > 1] == []
    has = corpus.has_anything()
    assert (side[~has] == -1).all() and (side[has] >= 0).all()
    shares = np.bincount(side[has], minlength=3) / has.sum()
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.03)


def test_drugs_that_are_added_move_hardly_any_other(corpus, split):
    rows = np.sort(np.random.default_rng(0).permutation(len(corpus))[: len(corpus) * 9 // 10])
    before = sides(split_corpus(corpus.take(rows), CONFIG, FeatureCache(None)), len(rows))
    after = sides(split, len(corpus))[rows]
    moved = (before != after)[(before >= 0) & (after >= 0)]
    assert moved.mean() < 0.01


def test_masked_texts_do_not_name_their_drugs_class(filled, corpus):
    """Words of the titles of a drug's own ATC classes, in its own texts."""
    with filled.connect() as connection:
        titles = dict(connection.execute(text("SELECT code, name FROM mkmed.atc_classes WHERE name IS NOT NULL")).all())
    codes = read_labels(filled, corpus.drug_ids).codes
    contents = corpus.texts.load(range(len(corpus.texts)))
    asked = before = after = 0
    for row, content in zip(corpus.texts.row.tolist(), contents, strict=True):
        said = {word for code in codes[row] for size in (3, 4, 5) if len(code) >= size
                for word in re.findall("[a-z]{6,}", (titles.get(code[:size]) or "").lower())} - ORDINARY - LEFT
        if said:
            asked += 1
            before += bool(said & set(re.findall("[a-z]{6,}", str(content).lower())))
            after += bool(said & set(re.findall("[a-z]{6,}", mask(str(content)).lower())))
    assert asked > 1_000
    assert before > 0.2 * asked
    assert after < 0.04 * asked, f"{after} of {asked} masked texts still name a word of the class; {before} did before"


ORDINARY = {"agents", "system", "products", "preparations", "derivatives", "excluding", "including", "plain",
            "combination", "combinations", "related", "substances", "treatment", "general", "therapeutic", "acting",
            "systemic", "topical", "blood", "direct", "against", "various", "compounds", "disease", "diseases", "acid"}
"""Words that are in many titles and in any text."""
LEFT = {
    "kinase", "receptor", "muscle", "protein", "reverse", "calcium", "selective", "factor", "platelet",
    "aggregation", "growth", "tyrosine", "reductase", "generation", "therapy", "dysfunction", "peptide",
    "oxidase", "contrast", "channel", "resistant", "peripheral", "centrally", "potassium", "activated",
    "mitogen", "alcohol", "blocking", "lactam", "spectrum", "quaternary", "releasing", "nitrogen", "magnetic",
    "resonance", "imaging", "effects", "glucagon", "lowering", "sodium", "magnesium", "platinum"}
"""Words of biochemistry that the mask leaves: in one text of seven they still tell something of a class
(docs/results.md)."""
