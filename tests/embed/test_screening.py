"""The screening tier: made by parts on any pool, searched exactly, brought into the knowledge base with its provenance."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_corpus import SMILES
from small_kb import fill
from sqlalchemy import text

from embed.config import load_config
from embed.runs import artefact
from embed.screening.dataset import (
    PARTS,
    PROPERTY_COLUMNS,
    ScreeningSet,
    finish_set,
    part_bytes,
    read_set,
    vector_blocks,
)
from embed.screening.encoding import encode_folder, raise_if_rejected
from embed.screening.promote import dataset_of, promote
from embed.screening.question import ask_drug, ask_smiles, ask_text
from embed.screening.rows import CompoundColumns, input_files, row_runs
from embed.screening.search import best_of_part, screen, top
from embed.training import job
from kb.errors import CheckpointError, DataError, Incomplete, NotFound, UsageError
from kb.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("text.model=scratch", "image.model=scratch", "train.epochs=1", "train.batch_size=16", "image.components=8",
         "graph.components=6", "molecule.fingerprint_components=16", "structure.depth=1", "device=cpu",
         "property.descriptors=false", "train.test=0.3", "width=16")
NO_COLUMNS = CompoundColumns()


def made_set(folder: Path, precision: str, sizes: tuple[int, ...], width: int = 32, seed: int = 0) -> np.ndarray:
    """A data set of random unit vectors, many of them equal; the answer is what was stored, as float32."""
    rng = np.random.default_rng(seed)
    one = ScreeningSet(folder, "run", "artefact", "molecule", width, precision, "CC0-1.0", "0", 1)
    (folder / PARTS).mkdir(parents=True)
    stored, names = [], []
    for number, size in enumerate(sizes):
        matrix = rng.normal(size=(size, width)).astype(np.float32)
        matrix[::3] = matrix[0] if size else 0
        matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)
        names.append(f"p{number}.parquet")
        columns = {name: [f"{name}-{number}-{n}" for n in range(size)] for name in ("id", "inchikey", "smiles")}
        numbers = np.full((size, len(PROPERTY_COLUMNS)), np.nan, np.float32)
        (folder / PARTS / names[-1]).write_bytes(part_bytes(one, "x", columns, numbers, matrix))
        if precision == "float16":
            stored.append(matrix.astype(np.float16).astype(np.float32))
        else:
            scale = np.maximum(np.abs(matrix).max(1, keepdims=True), 1e-12).astype(np.float32) / 127
            stored.append(np.rint(matrix / scale).astype(np.int8).astype(np.float32) * scale)
    finish_set(one, names, {})
    return np.concatenate(stored)


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("k", [1, 10, 700, 5000])
def test_the_search_equals_brute_force(tmp_path, precision, k, monkeypatch):
    monkeypatch.setattr("embed.screening.search.BLOCK", 100)
    monkeypatch.setattr("embed.screening.dataset.ROW_GROUP", 300)
    stored = made_set(tmp_path / "set", precision, (1000, 0, 37, 1, 2400))
    question = np.random.default_rng(9).normal(size=32).astype(np.float32)
    hits = screen(tmp_path / "set", question, k, workers=2)
    scores = stored.astype(np.float64) @ question
    assert len(hits) == min(k, len(stored)) and [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    number = {f"id-{p}-{n}": at for at, (p, n) in enumerate(
        (p, n) for p, size in enumerate((1000, 0, 37, 1, 2400)) for n in range(size))}
    found = np.array([number[hit.id] for hit in hits])
    assert len(set(found.tolist())) == len(found)
    np.testing.assert_allclose([hit.similarity for hit in hits], scores[found], atol=2e-6)
    best = np.sort(scores)[::-1][:len(hits)]
    np.testing.assert_allclose(scores[found], best, atol=2e-6)
    equal = np.flatnonzero(np.diff(scores[found]) == 0)  # of equal ones the earlier row is first
    assert len(equal) > 1000 or k < 5000
    assert (np.diff(found)[equal] > 0).all()


def test_equal_scores_at_the_border_give_the_earlier_rows():
    scores = np.array([1, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], np.float32)
    assert top(scores, np.arange(12), 3)[1].tolist() == [1, 2, 3]
    assert top(scores[::-1].copy(), np.arange(12)[::-1].copy(), 2)[1].tolist() == [1, 2]


def test_vectors_are_read_where_they_lie_or_copied_from_a_file_of_other_pages(tmp_path, monkeypatch):
    stored = made_set(tmp_path / "set", "float16", (500,))
    one, path = read_set(tmp_path / "set"), tmp_path / "set" / PARTS / "p0.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read_row_group", None)  # nothing is copied
        blocks = list(vector_blocks(path, one))
    np.testing.assert_array_equal(np.concatenate([numbers for _, numbers, _ in blocks]).astype(np.float32), stored)
    for options in ({"compression": "ZSTD"}, {"compression": "NONE", "data_page_size": 1000, "write_batch_size": 10,
                                                "use_dictionary": False}, {"compression": "NONE", "use_dictionary": True}):
        other = tmp_path / "other.parquet"
        pq.write_table(pq.read_table(path), other, row_group_size=130, **options)
        again = list(vector_blocks(other, one))
        assert [start for start, _, _ in again] == [0, 130, 260, 390]
        np.testing.assert_array_equal(np.concatenate([numbers for _, numbers, _ in again]).astype(np.float32), stored)
    question = stored[3]
    np.testing.assert_array_equal(best_of_part(one, other, question, 9)[1], best_of_part(one, path, question, 9)[1])


def test_other_programs_read_the_parts(tmp_path):
    import duckdb

    made_set(tmp_path / "set", "float16", (50,))
    path = tmp_path / "set" / PARTS / "p0.parquet"
    assert duckdb.sql(f"SELECT count(*), max(octet_length(vector)) FROM '{path}'").fetchall() == [(50, 64)]
    about = json.loads(pq.read_schema(path).metadata[b"mkmed"])
    assert (about["licence"], about["precision"], about["width"]) == ("CC0-1.0", "float16", 32)


# --- from structures to a data set ---


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return load_settings(home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def filled(database):
    fill(database)
    return database


@pytest.fixture(scope="module")
def run(filled, settings):
    return artefact.load(job.pretrain(filled, settings, load_config(sets=QUICK)).folder)


def molecules() -> list[str]:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        found = [tail + smiles for tail in ("", "CC", "CCO", "NCC") for smiles in SMILES if "." not in smiles]
        return [smiles for smiles in found if Chem.MolFromSmiles(smiles) is not None]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of a packed SMILES file, a CSV and an SDF; five rows are no molecules."""
    from rdkit import Chem

    folder, found = tmp_path_factory.mktemp("compounds"), molecules()
    third = len(found) // 3
    with gzip.open(folder / "a.smi.gz", "wt") as stream:
        stream.write("".join(f"{smiles}\tA{n}\n" for n, smiles in enumerate(found[:third])) + "C1CC broken\n\nCCO\n")
    rows = [f"B{n},{smiles}" for n, smiles in enumerate(found[third:2 * third])]
    (folder / "b.csv").write_text("\n".join(["name,smiles", *rows, "empty,", "long," + "C" * 30_000]) + "\n")
    with Chem.SDWriter(str(folder / "c.sdf")) as writer:
        for n, smiles in enumerate(found[2 * third:]):
            mol = Chem.MolFromSmiles(smiles)
            mol.SetProp("_Name", f"C{n}")
            writer.write(mol)
    with (folder / "c.sdf").open("a") as stream:
        stream.write("half a record\n\n\n  3  2  0  0\n")
    (folder / "notes.txt").write_text("not read")
    return folder


COLUMNS = CompoundColumns("name", "smiles")


def encode(run, source, target, **options):
    return encode_folder(run, source, target, options.pop("columns", COLUMNS), licence="CC0-1.0", rows_a_part=7, **options)


@pytest.fixture(scope="module")
def whole(run, source, tmp_path_factory):
    return encode(run, source, tmp_path_factory.mktemp("set") / "set", workers=2)


def test_every_compound_is_there_once_with_its_vector_and_numbers(run, source, whole):
    from embed.runs.embedder import Embedder

    tables = [pq.read_table(path).to_pylist() for path in whole.part_paths()]
    rows = [row for table in tables for row in table]
    known = molecules()
    assert whole.rows == len(rows) == len(known) + 1 and whole.rejected == 4
    assert len({row["id"] for row in rows}) == len(rows)
    embedder = Embedder(run)
    expected = embedder.smiles([row["smiles"] for row in rows])
    stored = np.stack([np.frombuffer(row["vector"], "<f2") for row in rows]).astype(np.float32)
    np.testing.assert_allclose(stored, expected, atol=2e-3)
    ethanol = next(row for row in rows if row["smiles"] == "CCO")
    assert ethanol["inchikey"] == "LFQSCWFLJHTTHZ-UHFFFAOYSA-N" and abs(ethanol["mol_weight"] - 46.069) < 1e-3
    reasons = [json.loads(line) for path in (whole.folder / PARTS).glob("*.jsonl") for line in path.read_text().splitlines()]
    assert {row["file"] for row in reasons} == {"a.smi.gz", "b.csv", "c.sdf"} and all(row["reason"] for row in reasons)
    with pytest.raises(Incomplete, match="4 of"):
        raise_if_rejected(whole)


PLACES = ["local", pytest.param("ray", marks=pytest.mark.skipif(find_spec("ray") is None,
                                                                 reason="Ray (extra scale) is not installed"))]


@pytest.mark.parametrize("on", PLACES)
def test_any_place_and_number_of_processes_gives_the_same_bytes(run, source, whole, tmp_path, on):
    if on == "ray":
        import ray

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        path = os.pathsep.join([str(ROOT), *sys.path])
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
                 object_store_memory=100 << 20, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        again = encode(run, source, tmp_path / "again", on=on, workers=1 if on == "local" else 2)
        hits = screen(tmp_path / "again", ask_smiles("CCO", again, settings_of(run)), 5, on=on)
    finally:
        if on == "ray":
            ray.shutdown()
    assert again.digest == whole.digest and again.parts == whole.parts
    assert hits[0].smiles == "CCO" and hits[0].similarity > 0.999


def settings_of(run):
    return load_settings(home=run.folder.parents[2])


def test_what_is_there_is_not_done_again_and_what_is_missing_is(run, source, whole, tmp_path, monkeypatch):
    target = tmp_path / "set"
    encode(run, source, target, workers=1)
    times = {path.name: path.stat().st_mtime_ns for path in (target / PARTS).iterdir()}
    gone = sorted((target / PARTS).glob("*.parquet"))[1]
    gone.unlink()
    (target / PARTS / ".half.part").write_text("what a killed process left")
    again = encode(run, source, target, workers=1)
    assert again.digest == whole.digest
    changed = {path.name for path in (target / PARTS).iterdir() if times.get(path.name) != path.stat().st_mtime_ns}
    assert changed <= {gone.name, gone.with_suffix(".rejected.jsonl").name} and gone.name in changed
    assert not list((target / PARTS).glob(".*"))


@pytest.mark.slow
def test_a_killed_encoding_goes_on_and_ends_with_the_same_bytes(run, source, whole, tmp_path):
    target = tmp_path / "set"
    code = (f"from pathlib import Path; from embed.runs import artefact; from embed.screening.encoding import *\n"
            f"if __name__ == '__main__':\n encode_folder(artefact.load(Path({str(run.folder)!r})), Path({str(source)!r}),"
            f" Path({str(target)!r}), CompoundColumns('name', 'smiles'), licence='CC0-1.0', rows_a_part=7, workers=1)\n")
    script = tmp_path / "child.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((target / PARTS).glob("*.parquet")) and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = len(list((target / PARTS).glob("*.parquet")))
    assert 0 < there < len(whole.parts) and read_set(target).state == "open"
    with pytest.raises(UsageError, match="not whole"):
        screen(target, np.zeros(16, np.float32))
    assert encode(run, source, target, workers=1).digest == whole.digest


def test_a_changed_row_changes_its_part_alone(run, source, whole, tmp_path):
    other = tmp_path / "compounds"
    other.mkdir()
    for path in source.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "b.csv").write_text((other / "b.csv").read_text().replace("B0,", "B-zero,"))
    again = encode(run, other, tmp_path / "set", workers=1)
    assert len(set(again.parts) - set(whole.parts)) == 1


def test_options_that_do_not_fit_are_refused(run, source, whole, tmp_path):
    with pytest.raises(UsageError, match="begun with precision float16"):
        encode(run, source, whole.folder, precision="int8")
    with pytest.raises(UsageError, match="no column of SMILES"):
        encode(run, source, tmp_path / "x", columns=NO_COLUMNS, workers=1)
    for options in ({"precision": "float8"}, {"kind": "fused"}, {"on": "moon"}):
        with pytest.raises(UsageError):
            encode(run, source, tmp_path / "y", **options)
    with pytest.raises(NotFound, match="no file of compounds"):
        input_files(tmp_path)
    with pytest.raises(NotFound, match="no data set"):
        screen(tmp_path, np.zeros(16, np.float32))
    with pytest.raises(DataError, match="numbers"):
        screen(whole.folder, np.zeros(3, np.float32))


def test_a_missing_part_is_told(run, source, tmp_path):
    one = encode(run, source, tmp_path / "set", workers=1, properties=False)
    assert pq.read_table(one.part_paths()[0])["qed"].null_count == 7
    one.part_paths()[0].unlink()
    with pytest.raises(DataError, match="is gone"):
        screen(one.folder, np.zeros(16, np.float32))


def test_questions_meet_what_they_ask_for(filled, settings, whole):
    with filled.connect() as connection:
        drugs = connection.execute(text("SELECT name, smiles FROM mkmed.drug WHERE smiles IS NOT NULL ORDER BY id")).all()
    held = {row["smiles"] for path in whole.part_paths() for row in pq.read_table(path, columns=["smiles"]).to_pylist()}
    name, smiles = next((name, smiles) for name, smiles in drugs if smiles in held)
    found = screen(whole.folder, ask_drug(filled, name, whole, settings), 3)
    assert found[0].smiles == smiles and found[0].similarity > 0.999
    assert len(screen(whole.folder, ask_text("two rings", whole, settings), 3)) == 3
    with pytest.raises(DataError, match="no structure"):
        ask_drug(filled, "insulin", whole, settings)
    with pytest.raises(DataError):
        ask_smiles("C1CC", whole, settings)
    other = ScreeningSet(**{**vars(whole), "artefact": "0" * 64})
    with pytest.raises(CheckpointError, match="other weights"):
        ask_smiles("CCO", other, settings)


def test_hits_become_drugs_with_their_provenance_once(filled, settings, whole):
    def counted():
        with filled.connect() as connection:
            return connection.execute(text(
                "SELECT r.key, s.name, a.licence_id, d.smiles FROM mkmed.drug_record r JOIN mkmed.source s ON s.name = r.source"
                " JOIN mkmed.drug d ON d.id = r.drug_id JOIN mkmed.artifact a ON a.id = r.artifact"
                " WHERE r.source LIKE '%' || :name ORDER BY 1"), {"name": dataset_of(whole)}).all()

    hits = screen(whole.folder, ask_smiles("CCO", whole, settings), 8)
    promote(filled, settings, whole, hits[:3])
    first = counted()
    assert len(first) == 3 and {row.licence_id for row in first} == {"CC0-1.0"}
    assert {row.smiles for row in first} == {hit.smiles for hit in hits[:3]}
    promote(filled, settings, whole, hits[2:])
    promote(filled, settings, whole, hits[:3])
    assert len(counted()) == 8 and set(first) <= set(counted())


def test_rows_are_read_in_runs_that_end_with_their_file(source):
    found = list(row_runs(input_files(source), COLUMNS, 7))
    assert all(len(one.rows) <= 7 for one in found)
    assert [one.file for one in found] == sorted(one.file for one in found)
    assert len({one.digest for one in found}) == len(found)
