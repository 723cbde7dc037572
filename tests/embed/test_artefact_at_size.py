"""A run on 2,500 drugs of the bundled corpus, to which 1,000 are added, of which 100 change and 100 are removed."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from rdkit import Chem
from small_kb import CC0, Hand, document, sides_of_fit
from sqlalchemy import text

from embed.config import load_config
from embed.evaluation.run import evaluate_run, read_evaluation_snapshot
from embed.features.cache import FeatureCache
from embed.runs import artefact, store
from embed.runs.found import load_run, open_embedder
from embed.runs.update import update
from embed.source import read_corpus
from embed.training import job
from kb.errors import Interrupted
from kb.ingest.engine import ingest, register_source
from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.output import plain
from kb.settings import load_settings
from kb.sources.contract import DrugRecord, IngestOptions, PropertyRecord, RecordBatch, TextRecord

pytestmark = pytest.mark.slow
QUICK = ("text.model=scratch", "modalities=text,structure,property,graph", "molecule.fingerprint_components=32",
         "graph.features=neighbourhood", "graph.components=16", "structure.depth=1", "train.epochs=2", "transfer.encoder=none",
         "transfer.landmarks=300", "device=cpu")
ACIDS = [f"{rest}C(=O)O" for rest in (
    *("C" * n for n in range(1, 13)), "c1ccccc1", "c1ccncc1", "c1ccoc1", "c1ccsc1", "Clc1ccc(cc1)", "Fc1ccc(cc1)", "C1CC1",
    "C1CCCCC1", "N#Cc1ccc(cc1)", "COc1ccc(cc1)", "OCC", "CSC", "FC(F)(F)")]
AMINES = [f"N{rest}" for rest in (
    *("C" * n for n in range(1, 16)), *(f"CC{'C' * n}O" for n in range(8)), *(f"CC{'C' * n}N" for n in range(8)),
    "c1ccccc1", "Cc1ccccc1", "CCc1ccccc1", "C1CC1", "C1CCCC1", "C1CCCCC1", "CC(F)(F)F", "CC#N", "c1ccncc1")]


def new_drugs(known: set[str], count: int = 1000) -> RecordBatch:
    """Amides that are not among the ``known`` InChIKeys, a text for two of three and numbers for one of two."""
    drugs, payloads = [], []
    for acid, amine in product(ACIDS, AMINES):
        number, mol = len(drugs), Chem.MolFromSmiles(acid[:-1] + amine)
        if number == count or Chem.MolToInchiKey(mol) in known:
            continue
        key = f"x:new{number}"
        drugs.append(DrugRecord(key, f"new {number}", document(f"new {number}"), "small molecule",
                                Chem.MolToSmiles(mol), Chem.MolToInchiKey(mol)))
        if number % 3:
            payloads.append(TextRecord(key, document(f"text {number}"), "hand", f"An amide of {mol.GetNumAtoms()} atoms, the"
                                       f" {number}th that was made of {acid} and {amine}", CC0.id))
        if number % 2:
            payloads.append(PropertyRecord(key, document(f"numbers {number}"), {"heavy_atoms": 1.0 * mol.GetNumAtoms()}))
    assert len({drug.inchikey for drug in drugs}) == count
    return RecordBatch(drugs=tuple(drugs), payloads=tuple(payloads))


def change(engine, vectors) -> tuple[set[int], set[int], set[int]]:
    """Add 1,000 drugs, change 100 (structures, texts, links to the graph) and remove 100: (new, changed, gone).

    The latter two are of the drugs that have all the ``vectors``.
    """
    with engine.begin() as connection:
        def ids(query):
            return connection.execute(text(query)).scalars().all()

        before = set(ids("SELECT id FROM mkmed.drug"))
        register_source(connection, Hand())
        write_batch(connection, start_run(connection, "ingest", name="more"), "hand",
                    new_drugs(set(ids("SELECT inchikey FROM mkmed.drug"))))
        new = set(ids("SELECT id FROM mkmed.drug")) - before
        every = sorted(set.intersection(*(set(stored.drug_ids.tolist()) for stored in vectors.values())))
        whole = np.random.default_rng(0).permutation(every).tolist()
        structures, texts, links, gone = whole[:30], whole[30:70], whole[70:100], whole[100:200]
        for number, drug_id in enumerate(structures):
            connection.execute(text("UPDATE mkmed.drug SET smiles = :s, identity = :i, inchikey = NULL WHERE id = :d"),
                               {"s": "C" * (number + 20) + "S", "i": f"inchikey:changed {number}", "d": drug_id})
        connection.execute(text(
            "UPDATE mkmed.text SET content = content || ' changed', content_sha256 = sha256(convert_to(content || ' changed',"
            " 'UTF8')) WHERE drug_id = ANY(:d)"), {"d": texts})
        connection.execute(text("DELETE FROM mkmed.drug_entity WHERE drug_id = ANY(:d)"), {"d": links})
        connection.execute(text("DELETE FROM mkmed.drug_record WHERE drug_id = ANY(:d)"), {"d": gone})
        connection.execute(text("DELETE FROM mkmed.drug WHERE id = ANY(:d)"), {"d": gone})
    assert len(new) == 1000 and len(gone) == 100
    return new, {*structures, *texts, *links}, set(gone)


def test_figures_split_and_vectors_stay_when_two_drugs_in_seven_are_new(fresh_database, tmp_path, monkeypatch):
    home = load_settings(home=tmp_path / "home")
    ingest(fresh_database, home, "corpus", IngestOptions(limit=2500))
    config = load_config(sets=QUICK)
    finished = job.pretrain(fresh_database, home, config)
    figures = evaluate_run(load_run(fresh_database, home))

    def stop(metrics):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        job.pretrain(fresh_database, home, config, publish=False, on_epoch=stop)
    begun = next(run for run in map(artefact.load, (home.runs / "pretrain").glob("*")) if run.state == "open")
    side = dict(zip(begun.drugs().drug_id.tolist(), begun.drugs().side.tolist(), strict=True))
    published = {kind: store.read_published(fresh_database, kind) for kind in ("fused", "molecule", "text", "graph")}
    new, changed, gone = change(fresh_database, published)

    again = evaluate_run(load_run(fresh_database, home))
    assert json.dumps(plain(again)) == json.dumps(plain(figures)) and again["retrieval"] and again["classes"]

    embedder = open_embedder(fresh_database, home)
    embedder.cache = FeatureCache(None)
    corpus = read_corpus(fresh_database, **embedder.corpus_options())
    found, row = embedder.encode(corpus), {int(i): k for k, i in enumerate(corpus.drug_ids)}
    for kind, stored in published.items():
        kept = [k for k, i in enumerate(stored.drug_ids.tolist()) if i not in changed | gone]
        assert len(kept) > 1000, kind
        own = found.fused if kind == "fused" else found.z[:, found.names.index(kind)]
        np.testing.assert_allclose(own[[row[int(stored.drug_ids[k])] for k in kept]], stored.matrix[kept], atol=1e-5,
                                   err_msg=kind)
    moved = [k for k, i in enumerate(published["fused"].drug_ids.tolist()) if i in changed]
    apart = np.abs(found.fused[[row[int(published["fused"].drug_ids[k])] for k in moved]]
                   - published["fused"].matrix[moved]).max(1)
    assert (apart > 1e-4).all(), "a drug that changed has another vector"

    done = update(fresh_database, embedder)
    assert (done.new, done.changed) == (1000, 100)
    after = store.read_published(fresh_database)
    assert after.run_id == finished.run_id and new < set(after.drug_ids.tolist()) and not gone & set(after.drug_ids.tolist())
    np.testing.assert_allclose(after.matrix, found.fused[[row[int(i)] for i in after.drug_ids]], atol=1e-5)

    seen = sides_of_fit(monkeypatch)
    resumed = job.pretrain(fresh_database, home, config, resume=str(begun.run_id), publish=False)
    for name, number in (("train", 0), ("held", 1)):
        assert seen[name] == {i for i, s in side.items() if s == number} - gone, name
    kept_by_run = read_evaluation_snapshot(artefact.load(resumed.folder))
    assert {int(i) for i in kept_by_run.drug_id[kept_by_run.side == 2]} == {i for i, s in side.items() if s == 2} - gone
