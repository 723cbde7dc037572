"""A run stands on its own: what the knowledge base becomes changes neither its split nor its figures nor its vectors."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from rdkit import Chem
from small_kb import CC0, NO_STRUCTURE, document, fill, sides_of_fit
from sqlalchemy import text

from embed.config import load_config
from embed.evaluation import run as evaluation
from embed.features.cache import FeatureCache
from embed.runs import artefact, store
from embed.runs.embedder import Embedder
from embed.runs.found import digest_at_hand, load_run, open_embedder, open_text_embedder
from embed.runs.update import update
from embed.search.batch import Columns, encode_file
from embed.search.molecules import MoleculeSearch
from embed.search.texts import TextSearch
from embed.source import read_corpus
from embed.training import job
from kb.errors import CheckpointError, DataError, Interrupted, UsageError
from kb.identity.undo import list_merges, undo_merge
from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.normalise import Identifier
from kb.output import plain
from kb.settings import load_settings
from kb.sources.contract import DrugRecord, PropertyRecord, RecordBatch, TextRecord

QUICK = ("text.model=scratch", "image.model=scratch", "train.epochs=3", "train.batch_size=16", "image.components=8",
         "graph.components=6", "molecule.fingerprint_components=16", "structure.depth=1", "device=cpu",
         "graph.dimension=8", "graph.epochs=2", "train.test=0.3")


@pytest.fixture
def home(tmp_path):
    return load_settings(home=tmp_path / "home")


def new_drugs(count: int) -> RecordBatch:
    """Drugs that were not there: chains of their own, with a text, numbers of a new kind, and one without a structure."""
    drugs, payloads = [], []
    for number in range(count):
        key, mol = f"drugbank:DB7{number:04d}", Chem.MolFromSmiles("C" * (number + 3) + "(=O)O")
        drugs.append(DrugRecord(key, f"new {number}", document(f"new {number}"), "small molecule",
                                Chem.MolToSmiles(mol), Chem.MolToInchiKey(mol)))
        payloads.append(TextRecord(key, document(f"new text {number}"), "hand", f"A chain of {number}", CC0.id))
        payloads.append(PropertyRecord(key, document(f"new numbers {number}"), {"aaa": 1.0 * number, "rings": 0.0}))
    drugs.append(DrugRecord("drugbank:DB79999", "new one without a structure", document("none"), "biotech"))
    payloads.append(TextRecord("drugbank:DB79999", document("none text"), "hand", "A large substance", CC0.id))
    return RecordBatch(drugs=tuple(drugs), payloads=tuple(payloads))


def add(engine, batch: RecordBatch) -> None:
    with engine.begin() as connection:
        write_batch(connection, start_run(connection, "ingest", name="more"), "hand", batch)


def grow(engine) -> None:
    """Add twelve drugs and edges, change the texts of four drugs, give one a structure, and remove two."""
    add(engine, new_drugs(12))
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO mkmed.kg_entity (id, name, type) VALUES (90, 'Gene::new', 'Gene'), (91, 'Compound::new', 'Compound')",
            "INSERT INTO mkmed.kg_triple VALUES (101, 1, 90, 1), (91, 1, 3, 1), (91, 1, 4, 1)",
            "INSERT INTO mkmed.drug_entity (drug_id, entity_id, method, via, weak)"
            " SELECT id, 91, 'identifier', 'x', false FROM mkmed.drug WHERE name = 'new 0'",
            "UPDATE mkmed.text SET content = content || ' changed', content_sha256 = sha256(convert_to(content || ' changed',"
            " 'UTF8')) WHERE drug_id IN (SELECT id FROM mkmed.drug WHERE name IN ('drug 1', 'drug 2', 'drug 3', 'drug 5'))",
            "UPDATE mkmed.drug SET smiles = 'CCCCCCCCCCCCCCCCO', identity = 'inchikey:changed' WHERE name = 'heparin'",
            "DELETE FROM mkmed.drug_record WHERE drug_id IN (SELECT id FROM mkmed.drug WHERE name IN ('drug 7', 'drug 8'))",
            "DELETE FROM mkmed.drug WHERE name IN ('drug 7', 'drug 8')",
        ):
            connection.execute(text(statement))


def same(one, other):
    return json.dumps(plain(one)) == json.dumps(plain(other))


CHANGED = {"drug 1", "drug 2", "drug 3", "drug 5", "heparin"}
GONE = {"drug 7", "drug 8"}


def names_of(engine):
    with engine.connect() as connection:
        return dict(connection.execute(text("SELECT id, name FROM mkmed.drug")).all())


def test_after_the_knowledge_base_grew_figures_and_vectors_stay_and_an_update_brings_the_rest(fresh_database, home, monkeypatch):
    monkeypatch.setattr(evaluation.retrieval_rows, "__defaults__", (2,))
    fill(fresh_database)
    finished = job.pretrain(fresh_database, home, load_config(sets=QUICK))
    run = load_run(fresh_database, home)
    figures = evaluation.evaluate_run(run)
    before = {kind: store.read_published(fresh_database, kind) for kind in ("fused", *run.run["modalities"])}
    names = names_of(fresh_database)
    grow(fresh_database)

    again = evaluation.evaluate_run(load_run(fresh_database, home))
    assert same(again, figures) and again["retrieval"]

    embedder = open_embedder(fresh_database, home)
    for cache in (embedder.cache, FeatureCache(None)):  # from what is cached here, and all computed anew
        embedder.cache = cache
        corpus = read_corpus(fresh_database, **embedder.corpus_options())
        found = embedder.encode(corpus)
        row = {int(i): k for k, i in enumerate(corpus.drug_ids)}
        for kind, stored in before.items():
            kept = [k for k, i in enumerate(stored.drug_ids) if names[i] not in CHANGED | GONE]
            rows = [row[int(stored.drug_ids[k])] for k in kept]
            own = found.fused if kind == "fused" else found.z[:, found.names.index(kind)]
            np.testing.assert_allclose(own[rows], stored.matrix[kept], atol=1e-5, err_msg=kind)

    done = update(fresh_database, embedder)
    assert (done.new, done.changed, done.gone) == (13, len(CHANGED), 0)  # removed drugs took their vectors with them
    after = store.read_published(fresh_database)
    assert after.run_id == finished.run_id
    np.testing.assert_allclose(after.matrix, found.fused[[row[int(i)] for i in after.drug_ids]], atol=1e-5)
    assert set(after.drug_ids.tolist()) == {int(i) for i, has in zip(corpus.drug_ids, found.present.any(1), strict=True)
                                            if has}
    nothing = update(fresh_database, embedder)
    assert (nothing.new, nothing.changed, nothing.gone) == (0, 0, 0) and nothing.kept == len(after.drug_ids)
    with fresh_database.connect() as connection:
        near = connection.execute(text("SELECT name FROM mkmed.similar_drugs('new 5', 3)")).scalars().all()
    assert len(near) == 3 and "new 5" not in near


LOOSE = DrugRecord("x:1", "loose drug", document("loose"), identifiers=(Identifier("drugbank", "DB55555"),))


def join(engine) -> None:
    """A record says that "drug 3" has the identifier of the loose drug, which is merged into it."""
    with engine.begin() as connection:
        known = connection.execute(text("SELECT smiles, inchikey FROM mkmed.drug WHERE name = 'drug 3'")).one()
        write_batch(connection, start_run(connection, "ingest", name="join"), "hand", RecordBatch(drugs=[
            DrugRecord("drugbank:DB00003", "drug 3", document("drug 3 again"), "small molecule", known.smiles,
                       known.inchikey, identifiers=LOOSE.identifiers)]))


def undo(engine) -> None:
    """Take the merge back."""
    with engine.begin() as connection:
        undo_merge(connection, list_merges(connection)[0]["id"], start_run(connection, "undo", name="undo"))


@pytest.mark.parametrize("updated_between", [True, False])
def test_vectors_after_a_merge_and_its_undoing(fresh_database, home, updated_between):
    """A drug that vanishes takes its vectors along; what comes back gets the ones it had, and no drug another's."""
    fill(fresh_database)
    add(fresh_database, RecordBatch(drugs=[LOOSE], payloads=[
        TextRecord("x:1", document("loose text"), "hand", "A loose text of seven words, no more", CC0.id)]))
    # Links to the graph were made by hand here, and would not be made again.
    job.pretrain(fresh_database, home, load_config(sets=[*QUICK, "modalities=image,text,structure,property"]))
    embedder = open_embedder(fresh_database, home)

    def right() -> dict[str, tuple]:
        """Every stored vector by name and kind, after each was compared with a fresh encoding of its drug."""
        corpus = read_corpus(fresh_database, **embedder.corpus_options())
        embedder.cache = FeatureCache(None)
        found = embedder.encode(corpus)
        foretold = dict(zip(*(part.tolist() for part in embedder.predicted(corpus)["predicted"]), strict=True))
        row, names, told = {int(i): k for k, i in enumerate(corpus.drug_ids)}, names_of(fresh_database), {}
        for kind in ("fused", "predicted", *embedder.names):
            stored = store.read_published(fresh_database, kind)
            for drug_id, vector in zip(stored.drug_ids.tolist(), stored.matrix, strict=True):
                k = row[drug_id]
                own = (found.fused[k] if kind == "fused" else np.array(foretold[drug_id]) if kind == "predicted"
                       else found.z[k, found.names.index(kind)])
                np.testing.assert_allclose(vector, own, atol=1e-5, err_msg=f"{kind} of {names[drug_id]}")
                told[names[drug_id], kind] = tuple(vector.round(4))
        assert {name for name, kind in told if kind == "fused"} == {
            corpus.names[k] for k in np.flatnonzero(found.present.any(1))}
        return told

    before, drugs = right(), set(names_of(fresh_database).values())
    join(fresh_database)
    (gone,) = drugs - set(names_of(fresh_database).values())
    (stays,) = {"loose drug", "drug 3"} - {gone}
    if updated_between:
        assert update(fresh_database, embedder).changed == 1
        between = right()
        assert between[stays, "text"] not in (before["drug 3", "text"], before["loose drug", "text"])
        assert (gone, "fused") not in between
    undo(fresh_database)
    assert set(names_of(fresh_database).values()) == drugs
    done = update(fresh_database, embedder)
    assert done.new + done.changed >= 1 and done.gone == 0
    assert right() == before


def test_resume_goes_on_with_the_split_that_the_run_began_with(fresh_database, home, monkeypatch):
    fill(fresh_database)

    def stop(metrics):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        job.pretrain(fresh_database, home, load_config(sets=QUICK), on_epoch=stop)
    folder = next((home.runs / "pretrain").glob("*"))
    begun = artefact.load(folder)
    assert begun.state == "open"
    with pytest.raises(CheckpointError, match="not finished"):
        begun.weights()
    side = dict(zip(begun.drugs().drug_id.tolist(), begun.drugs().side.tolist(), strict=True))
    fitted = begun.bytes_of("fitted.safetensors")
    grow(fresh_database)
    seen = sides_of_fit(monkeypatch)
    done = job.pretrain(fresh_database, home, load_config(), resume="last")
    here = set(names_of(fresh_database))
    assert seen["train"] == {i for i, s in side.items() if s == 0 and i in here}
    assert seen["held"] == {i for i, s in side.items() if s == 1 and i in here}
    sealed = artefact.load(done.folder)
    assert sealed.sealed and sealed.bytes_of("fitted.safetensors") == fitted
    kept = evaluation.read_evaluation_snapshot(sealed)
    assert {int(i) for i in kept.drug_id[kept.side == 2]} == {i for i, s in side.items() if s == 2 and i in here}
    assert set(store.read_published(fresh_database).drug_ids.tolist()) > set(kept.drug_id.tolist())  # new ones have a vector


@pytest.fixture(scope="module")
def filled(database):
    fill(database)
    return database


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return load_settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def finished(filled, place):
    return job.pretrain(filled, place, load_config(sets=QUICK))


def test_the_folder_is_hashed_and_says_what_went_in(finished):
    run = artefact.load(finished.folder)
    assert run.sealed and not [name for name in run.files if name.endswith(".pt")]
    card = run.json("card.json")
    assert card["licences"] and {one["licence"] for one in card["licences"]} == {"CC0-1.0"} and card["share"] == "open"
    assert card["corpus"]["train"] > 10 and len(card["corpus"]["fingerprint"]) == 64
    words = run.bytes_of("card.md").decode()
    assert "## Limits" in words and "CC0-1.0" in words and str(finished.run_id) in words
    for name in run.files:
        run.bytes_of(name)


@pytest.mark.parametrize("name", ["weights.safetensors", "fitted.safetensors", "config.json"])
def test_an_altered_file_is_refused_and_never_replaced(filled, place, finished, name):
    path = finished.folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    try:
        with pytest.raises(CheckpointError, match=name):
            Embedder.open(finished.folder)
        with pytest.raises(CheckpointError, match=name):
            digest_at_hand(place, finished.run_id)
    finally:
        path.write_bytes(whole)


def test_a_run_travels_as_one_file_and_needs_no_database(finished, tmp_path, monkeypatch):
    run = artefact.load(finished.folder)
    artefact.export_run(run, tmp_path / "run.tar.gz")
    artefact.export_run(run, tmp_path / "again.tar.gz")
    assert (tmp_path / "run.tar.gz").read_bytes() == (tmp_path / "again.tar.gz").read_bytes()
    brought, new = artefact.import_(tmp_path / "run.tar.gz", tmp_path / "elsewhere")
    assert new and brought.digest == run.digest
    assert artefact.import_(tmp_path / "run.tar.gz", tmp_path / "elsewhere")[1] is False
    here, there = Embedder.open(finished.folder), Embedder.open(brought.folder)
    np.testing.assert_array_equal(here.smiles(["CCO", "c1ccccc1O"]), there.smiles(["CCO", "c1ccccc1O"]))
    np.testing.assert_array_equal(here.texts(["two rings"]), there.texts(["two rings"]))
    assert same(evaluation.evaluate_run(brought), evaluation.evaluate_run(run))


@pytest.mark.parametrize("harm", ["byte", "outside", "link", "cut", "other"])
def test_a_file_that_is_no_exported_run_leaves_nothing(finished, tmp_path, harm):
    path = tmp_path / "run.tar.gz"
    artefact.export_run(artefact.load(finished.folder), path)
    inside = tmp_path / "open"
    with tarfile.open(path) as archive:
        archive.extractall(inside, filter="data")
    folder = inside / str(finished.run_id)
    if harm == "byte":
        data = bytearray((folder / "weights.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "weights.safetensors").write_bytes(data)
    if harm == "link":
        (folder / "card.md").unlink()
        (folder / "card.md").symlink_to("/etc/hostname")
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"{finished.run_id}/{file.name}" if harm != "outside" else f"../{file.name}")
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-2000])
    if harm == "other":
        path.write_bytes(b"not an archive")
    with pytest.raises(CheckpointError):
        artefact.import_(path, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_an_imported_run_gets_vectors_for_the_drugs_that_are_here(filled, place, finished, fresh_database, tmp_path):
    artefact.export_run(artefact.load(finished.folder), tmp_path / "run.tar.gz")
    brought, _ = artefact.import_(tmp_path / "run.tar.gz", tmp_path / "runs")
    fill(fresh_database)
    add(fresh_database, new_drugs(3))
    done = update(fresh_database, Embedder(brought))
    assert done.new == 44 + 4
    store.publish(fresh_database, brought.run_id, artefact=brought.digest)
    here, there = store.read_published(fresh_database), store.read_published(filled)
    names, others = names_of(fresh_database), names_of(filled)
    rows = {names[int(i)]: k for k, i in enumerate(here.drug_ids)}
    at = [rows[others[int(i)]] for i in there.drug_ids]
    np.testing.assert_allclose(here.matrix[at], there.matrix, atol=1e-5)


def as_old(folder: Path, to: Path) -> Path:
    """The run as release 0.1.0 left it: a checkpoint with projections, no manifest."""
    from embed.runs import checkpoint

    old = to / folder.name
    shutil.copytree(folder, old)
    tensors, meta = checkpoint.load_exactly(old / "best.pt")
    fitted = artefact.load(folder).fitted()
    states = {name: one.state() for name, one in fitted.projections.items()}
    for path in old.iterdir():
        if path.suffix == ".safetensors" or path.name in ("artefact.json", "run.json", "card.json", "card.md"):
            path.unlink()
    checkpoint.save(old / "best.pt", {**tensors, "extra": {"projections": states}}, meta)
    return old


def test_a_run_of_the_first_release_is_read_as_far_as_it_goes(finished, tmp_path):
    new, old = Embedder.open(finished.folder), Embedder.open(as_old(finished.folder, tmp_path))
    np.testing.assert_allclose(old.smiles(["CCO"]), new.smiles(["CCO"]), atol=1e-6)
    np.testing.assert_allclose(old.texts(["two rings"]), new.texts(["two rings"]), atol=1e-6)
    assert set(new.able) - set(old.able) == {"property", "graph"}
    with pytest.raises(CheckpointError, match=r"0\.1\.0") as error:
        old.require_whole()
    assert "pretrain" in error.value.hint
    with pytest.raises(CheckpointError):
        evaluation.evaluate_run(old.artefact)
    with pytest.raises(UsageError):
        artefact.export_run(old.artefact, tmp_path / "x.tar.gz")


def test_every_known_molecule_finds_itself_first_and_forms_of_it_are_told(filled, place, finished):
    search = MoleculeSearch(filled, open_embedder(filled, place))
    with filled.connect() as connection:
        drugs = connection.execute(text("SELECT id, name, smiles FROM mkmed.drug WHERE smiles IS NOT NULL")).all()
    for drug_id, _, smiles in drugs[::3]:
        mixed = Chem.MolToSmiles(Chem.MolFromSmiles(smiles), doRandom=True)
        first = search.ask(mixed, 3)[0]
        assert (first["drug_id"], first["relation"]) == (drug_id, "identical")
    aspirin = next(i for i, _, s in drugs if Chem.MolFromSmiles(s).HasSubstructMatch(Chem.MolFromSmarts("OC(=O)c1ccccc1OC(C)=O"))
                   and Chem.MolFromSmiles(s).GetNumAtoms() == 13)
    for form in ("CC(=O)Oc1ccccc1C(=O)[O-].[Na+]", "CC(=O)Oc1ccccc1C(O)=O.Cl", "[2H]C([2H])([2H])C(=O)Oc1ccccc1C(=O)O"):
        told = search.ask(form, 3)[0]
        assert (told["drug_id"], told["relation"]) == (aspirin, "parent"), form
    other = search.ask("FC(F)(F)c1nnc2n1CCNC2", 3)
    assert [row["relation"] for row in other] == ["", "", ""]
    assert other[0]["rests_on"] == ["predicted from structure"] and -1 <= other[0]["sure"] <= 1
    with pytest.raises(DataError):
        search.ask("nonsense", 3)


def test_the_nearest_of_the_proposed_drugs_are_those_most_alike(filled, place, monkeypatch):
    """Against all pairs; what was asked before changes nothing, and a drug whose structure is gone is not compared."""
    monkeypatch.setattr("embed.search.predicted.CANDIDATES", 12)
    asked = ["FC(F)(F)c1nnc2n1CCNC2", "CC(=O)Nc1ccc(OC)cc1", "NCCc1ccc(O)c(O)c1"]
    search = MoleculeSearch(filled, open_embedder(filled, place))
    predictions = search.predictions
    assert predictions is not None
    _, foretold = search.run.foretell(asked)
    smiles = dict(zip(search.known.drugs.ids.tolist(), search.known.drugs.smiles, strict=True))
    stored = predictions.stored
    _, all_drugs = search.run.foretell([smiles[int(i)] for i in stored.drug_ids])
    alike = predictions.head.alike(foretold.traits, all_drugs.traits)
    assert len(stored.drug_ids) > 12
    together = predictions.nearest(foretold, 3, also=[0])
    for number, smile in enumerate(asked):
        proposed = np.argsort(-(stored.matrix @ foretold.wide[number]), kind="stable")[:12]
        best = proposed[np.argsort(-alike[number, proposed], kind="stable")][:3]
        rows, similarity = together[number]
        assert set(rows.tolist()) == {*best.tolist(), 0}
        np.testing.assert_allclose(similarity, alike[number, rows], atol=1e-5)
        assert (np.diff(similarity) <= 0).all()
        _, alone = search.run.foretell([smile])
        np.testing.assert_array_equal(predictions.nearest(alone, 3, also=[0])[0][0], rows)
    lost = int(together[1][0][0])
    again = MoleculeSearch(filled, search.run).predictions
    again._smiles[int(stored.drug_ids[lost])] = None
    assert lost not in again.nearest(foretold, 3)[1][0]


def test_a_tautomer_is_a_form_of_its_drug(fresh_database, place, finished):
    fill(fresh_database)
    mol = Chem.MolFromSmiles("CC(=O)CC(=O)OC")
    record = DrugRecord("drugbank:DB60000", "keto", document("keto"), "small molecule", Chem.MolToSmiles(mol),
                        Chem.MolToInchiKey(mol))
    add(fresh_database, RecordBatch(drugs=(record,)))
    run = Embedder.open(finished.folder)
    update(fresh_database, run)
    told = MoleculeSearch(fresh_database, run).ask("CC(O)=CC(=O)OC", 2)[0]
    assert (told["name"], told["relation"]) == ("keto", "parent")


def test_an_unrelated_molecule_is_told_from_a_drug(filled, place, finished):
    search = MoleculeSearch(filled, open_embedder(filled, place))
    strange, known = search.ask("F[Si](F)(F)[Ge]", 1)[0], search.ask("CC(=O)Nc1ccc(O)cc1", 1)[0]
    assert strange["unusual"] == 100.0 and known["unusual"] == 0.0


def test_a_name_comes_first_and_parts_are_joined(filled, place, finished):
    search = TextSearch(filled, open_text_embedder(filled, place))
    assert (search.ask("drug 3", 3)[0]["name"], search.ask("drug 3", 3)[0]["relation"]) == ("drug 3", "identical")
    found = search.ask("insulin: a large substance", 3)
    assert found[0]["name"] in NO_STRUCTURE and found[0]["relation"] == "" and found[0]["words"] == 1
    assert all(row["unusual"] is not None for row in found)
    with pytest.raises(DataError):
        search.ask("  ", 3)


def written(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def test_a_file_of_molecules_and_texts_is_encoded_row_by_row(filled, place, finished, tmp_path):
    run = open_embedder(filled, place)
    (tmp_path / "in.csv").write_text("name,SMILES,note\na,CC(=O)Nc1ccc(O)cc1,\nb,nonsense,\nc,,two rings\nd,,\ne,CCO,an alcohol\n"
                                     "f,CCO\n")
    columns = Columns("name", "SMILES", "note")
    done = encode_file(filled, run, tmp_path / "in.csv", tmp_path / "out.parquet", columns, batch=2)
    rows = written(tmp_path / "out.parquet")
    assert [row["id"] for row in rows] == ["a", "b", "c", "d", "e", "7"]
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "failed", "ok", "failed"]
    assert (done.rows, done.encoded, done.failed) == (6, 3, 3)
    assert rows[0]["relation"] == "identical" and rows[0]["matched_name"] == "drug 1" and len(rows[0]["nearest"]) == 5
    assert len(rows[0]["vector"]) == 64 and rows[1]["vector"] is None and "SMILES" in rows[1]["error"]
    assert rows[2]["rests_on"] == ["text"] and {"molecule", "text"} <= set(rows[4]["rests_on"])
    np.testing.assert_allclose(rows[2]["vector"], run.fuse(*_text_only(run, "two rings"))[0], atol=1e-5)
    encode_file(filled, run, tmp_path / "in.csv", tmp_path / "whole.parquet", columns, batch=100)
    for one, other in zip(rows, written(tmp_path / "whole.parquet"), strict=True):
        assert (one["status"], one["error"]) == (other["status"], other["error"])
        if one["vector"]:
            np.testing.assert_allclose(one["vector"], other["vector"], atol=1e-5)
    encode_file(filled, run, tmp_path / "in.csv", tmp_path / "skip.parquet", columns, on_error="skip")
    assert [row["id"] for row in written(tmp_path / "skip.parquet")] == ["a", "c", "e"]
    with pytest.raises(DataError, match="row 3"):
        encode_file(filled, run, tmp_path / "in.csv", tmp_path / "none.parquet", columns, on_error="stop")
    assert not (tmp_path / "none.parquet").exists() and not list(tmp_path.glob(".*.tmp"))


def _text_only(run, words):
    z, present = np.zeros((1, len(run.names), run.width), np.float32), np.zeros((1, len(run.names)), bool)
    z[0, run.names.index("text")], present[0, run.names.index("text")] = run.texts([words])[0], True
    return z, present


@pytest.mark.parametrize("kind", ["tsv", "sdf", "parquet"])
def test_other_files_give_the_same_vectors(filled, place, finished, tmp_path, kind):
    run, smiles = open_embedder(filled, place), ["CC(=O)Nc1ccc(O)cc1", "CCO"]
    path = tmp_path / f"in.{kind}"
    if kind == "tsv":
        path.write_text("SMILES\n" + "\n".join(smiles) + "\n")
    elif kind == "sdf":
        with Chem.SDWriter(str(path)) as writer:
            for one in smiles:
                writer.write(Chem.MolFromSmiles(one))
    else:
        pyarrow.parquet.write_table(pyarrow.table({"SMILES": smiles}), path)
    encode_file(filled, run, path, tmp_path / "out.parquet", Columns(smiles=None if kind == "sdf" else "SMILES"))
    expected = MoleculeSearch(filled, run).encode([Chem.MolToSmiles(Chem.MolFromSmiles(one)) for one in smiles]).fused
    np.testing.assert_allclose([row["vector"] for row in written(tmp_path / "out.parquet")], expected, atol=1e-5)
    if kind != "sdf":
        with pytest.raises(UsageError, match="SMILE"):
            encode_file(filled, run, path, tmp_path / "out.parquet", Columns(smiles="SMILE"))
