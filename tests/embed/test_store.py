"""The vector store and its SQL against a real Postgres."""

import signal
import subprocess
import sys
import textwrap
import uuid

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from embed.runs import store
from kb.db.roles import create_roles
from kb.errors import DataError, NotFound, UsageError
from kb.ledger.entries import start_run
from kb.ledger.verify import verify
from tests.databases import roles_lock

DRUGS = 600


def unit(rng, rows, width):
    matrix = rng.normal(size=(rows, width)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def drugs(database):
    """Ids of many drugs, every tenth in ATC class A10, every other one with a text."""
    with database.begin() as connection:
        run_id = start_run(connection, "ingest")
        for statement in (
            "INSERT INTO mkmed.licence (id, title, share) VALUES ('CC0-1.0', 'CC0', 'open')",
            "INSERT INTO mkmed.source (name, title, url, origin, licence_id) VALUES ('hand', 'h', 'u', 'user', 'CC0-1.0')",
            "INSERT INTO mkmed.content VALUES (sha256('x'), 'x', NULL, 1)",
            "INSERT INTO mkmed.artifact VALUES (sha256('x'), sha256('x'), 't', 'hand', 'u', NULL, 'CC0-1.0', 'a', NULL, 'p',"
            " now(), :run)",
            "INSERT INTO mkmed.drug (identity, name, kind, run_id) SELECT 'user:' || g, 'drug ' || g, 'unknown', :run"
            " FROM generate_series(1, :n) g",
            "INSERT INTO mkmed.drug_record (source, key, drug_id, name, kind, identifiers, artifact)"
            " SELECT 'hand', identity, id, name, kind, '[]', sha256('x') FROM mkmed.drug",
            "INSERT INTO mkmed.drug_name (drug_id, name, source, key, kind, artifact) SELECT id, name, 'hand', identity,"
            " 'preferred', sha256('x') FROM mkmed.drug",
            "INSERT INTO mkmed.atc_class VALUES ('A', 1, NULL, NULL, 'hand', sha256('x')), ('A10', 2, NULL, 'A', 'hand',"
            " sha256('x'))",
            "INSERT INTO mkmed.drug_atc (drug_id, code, source, record_source, record_key, artifact)"
            " SELECT id, 'A10', 'hand', 'hand', identity, sha256('x') FROM mkmed.drug WHERE id % 10 = 0",
            "INSERT INTO mkmed.cell (drug_id, modality, source, record_source, record_key, state, artifact, run_id)"
            " SELECT id, 'text', 'hand', 'hand', identity, 'present', sha256('x'), :run FROM mkmed.drug WHERE id % 2 = 0",
        ):
            connection.execute(text(statement), {"run": run_id, "n": DRUGS})
        return np.array(connection.execute(text("SELECT id FROM mkmed.drug ORDER BY id")).scalars().all())


def write(database, drugs, width=64, seed=0, **options):
    rng = np.random.default_rng(seed)
    with database.begin() as connection:
        run_id = start_run(connection, "pretrain")
    fused, texts = unit(rng, len(drugs), width), unit(rng, len(drugs) // 2, width)
    rests_on = np.zeros((len(drugs), 6), bool)
    rests_on[:, 5], rests_on[::2, 1] = True, True
    store.write_run(database, run_id, {"fused": (drugs, fused), "text": (drugs[::2], texts)}, rests_on, **options)
    return run_id, fused, texts


@pytest.fixture(scope="module")
def published(database, drugs):
    run_id, fused, texts = write(database, drugs)
    store.publish(database, run_id)
    return run_id, fused, texts


def test_what_is_written_is_read_bit_for_bit(database, drugs, published):
    run_id, fused, texts = published
    read = store.read_published(database)
    assert read.run_id == run_id
    assert np.array_equal(read.matrix, fused)
    assert np.array_equal(read.drug_ids, drugs)
    assert read.rests_on[:, 1].tolist() == [i % 2 == 0 for i in range(len(drugs))]
    assert np.array_equal(store.read(database, run_id, "text").matrix, texts)
    with pytest.raises(NotFound):
        store.read(database, run_id, "image")


def sql_rows(database, query, **values):
    with database.connect() as connection:
        return connection.execute(text(query), values).all()


def test_neighbours_are_the_exact_ones(database, drugs, published):
    _, fused, _ = published
    rows = sql_rows(database, "SELECT * FROM mkmed.similar_drugs('drug 7', 10)")
    expected = drugs[np.argsort(-(fused @ fused[6]), kind="stable")][1:11]
    assert [r.drug_id for r in rows] == expected.tolist()
    assert rows[0].similarity == pytest.approx(float(np.sort(fused @ fused[6])[-2]), abs=1e-5)
    assert 7 not in [r.drug_id for r in rows]


@pytest.mark.parametrize(
    ("filters", "keep"),
    [
        ({"atc": "A10"}, lambda i: i % 10 == 0),
        ({"atc": "a"}, lambda i: i % 10 == 0),
        ({"has": ["text"]}, lambda i: i % 2 == 0),
    ],
)
def test_a_filter_still_gives_k_rows_and_the_right_ones(database, drugs, published, filters, keep):
    _, fused, _ = published
    call = ", ".join(f"{name} => :{name}" for name in filters)
    rows = sql_rows(database, f"SELECT * FROM mkmed.similar_drugs('drug 7', 10, {call})", **filters)
    order = [i for i in drugs[np.argsort(-(fused @ fused[6]), kind="stable")].tolist() if keep(i) and i != drugs[6]]
    assert [r.drug_id for r in rows] == order[:10]


def test_similar_to_and_across(database, drugs, published):
    _, fused, texts = published
    vector = str(fused[3].tolist())
    assert sql_rows(database, "SELECT * FROM mkmed.similar_to(CAST(:v AS vector), 1)", v=vector)[0].drug_id == drugs[3]
    rows = sql_rows(database, "SELECT * FROM mkmed.similar_across('drug 3', 'fused', 'text', 5)")
    expected = drugs[::2][np.argsort(-(texts @ fused[2]), kind="stable")][:5]
    assert [r.drug_id for r in rows] == expected.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("similar_drugs('nobody', 3)", "no drug"),
        ("similar_drugs('drug 7', 0)", "k must be"),
        ("similar_drugs('drug 7', 2000000000)", "k must be"),
        ("similar_drugs('drug 7', 3, 'image')", "no image vector"),
        ("similar_to('[1,2,3]'::vector, 3)", "dimensions"),
        ("similar_drugs('drug 7', 3, 'x''; drop table mkmed.drug; --')", "has no"),
        ("similar_across('drug 7', 'fused', 'image', 3)", "no vectors of modality"),
    ],
)
def test_errors_say_what_to_do(database, published, call, message):
    with pytest.raises(DBAPIError, match=message):
        sql_rows(database, f"SELECT * FROM mkmed.{call}")


def test_another_width_breaks_no_view_that_somebody_built(database, drugs, published):
    with database.begin() as connection:
        connection.execute(text("CREATE VIEW public.mine AS SELECT drug_id, embedding <=> embedding AS self, rests_on"
                                " FROM mkmed.drug_vector"))
    for width, precision in ((32, "halfvec"), (48, "vector"), (64, "vector")):
        run_id, fused, _ = write(database, drugs, width=width, seed=width, precision=precision)
        store.publish(database, run_id)
        assert len(sql_rows(database, "SELECT * FROM public.mine")) == DRUGS
        assert sql_rows(database, "SELECT DISTINCT vector_dims(embedding) FROM mkmed.drug_vector") == [(width,)]
        near = sql_rows(database, "SELECT * FROM mkmed.similar_drugs('drug 7', 3)")
        assert [r.drug_id for r in near] == drugs[np.argsort(-(fused @ fused[6]), kind="stable")][1:4].tolist()
        store.publish(database, published[0])
        store.drop(database, run_id)
    with pytest.raises(UsageError):
        store.drop(database, published[0])
    with database.begin() as connection:
        connection.execute(text("DROP VIEW public.mine"))


def test_vectors_of_other_weights_or_half_a_run_are_not_published(database, drugs, published):
    origin = store.VectorOrigin("a" * 64, drugs, np.zeros((len(drugs), 32), np.uint8))
    run_id, _, _ = write(database, drugs, seed=5, origin=origin)
    with pytest.raises(UsageError, match="other weights"):
        store.publish(database, run_id, artefact="b" * 64)
    with database.begin() as connection:
        connection.execute(text("UPDATE mkmed.embedding_run SET width = 63 WHERE run_id = :r"), {"r": run_id})
    with pytest.raises(UsageError, match="not what its row says"):
        store.publish(database, run_id, artefact="a" * 64)
    assert store.published_run(database) == published[0]
    store.drop(database, run_id)


def test_a_write_makes_no_reader_wait(database, drugs, published, monkeypatch):
    """While a run's vectors are loaded and indexed, all that others can see answers at once."""
    loaded, seen = store._load, []

    def watched(*arguments):
        loaded(*arguments)
        with database.connect() as reader:
            reader.execute(text("SET statement_timeout = '2s'"))
            seen.append(reader.scalar(text("SELECT count(*) FROM mkmed.similar_drugs('drug 7', 5)")))
            seen.append(reader.scalar(text("SELECT count(*) FROM mkmed.drug_vector")))
            seen.append(reader.scalar(text("SELECT count(*) FROM mkmed.modality_vector")))

    monkeypatch.setattr(store, "_load", watched)
    run_id, _, _ = write(database, drugs, seed=6)
    assert seen == [5, DRUGS, DRUGS // 2] * 2
    store.drop(database, run_id)


def test_an_index_of_signs_is_ranked_anew_by_the_vectors(database, drugs, published, monkeypatch):
    """Below the size of an index, and through one, the nearest are those of the vectors, with their similarities."""
    for above, scans in ((store.HNSW_ABOVE, False), (10, True)):
        monkeypatch.setattr(store, "HNSW_ABOVE", above)
        run_id, fused, _ = write(database, drugs, seed=8, precision="bit")
        store.publish(database, run_id)
        signs = sql_rows(database, "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%bit_hamming_ops%' AND tablename = "
                                   f"'embedding_{run_id.hex}_fused'")
        assert signs == [(int(scans),)]
        near = sql_rows(database, "SELECT * FROM mkmed.similar_drugs('drug 7', 5)")
        scores = fused @ fused[6]
        right = np.argsort(-scores, kind="stable")[1:6]
        assert [row.drug_id for row in near] == drugs[right].tolist()
        assert np.allclose([row.similarity for row in near], scores[right], atol=1e-5)
        store.publish(database, published[0])
        store.drop(database, run_id)


INDEX_SCANS = ("SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes i"
               " JOIN pg_indexes x ON x.indexname = i.indexrelname WHERE i.relname LIKE :name"
               " AND x.indexdef LIKE '%hnsw%'")


@pytest.mark.slow
def test_at_a_size_that_needs_the_index_the_planner_takes_it(fresh_database):
    """No setting is bent: so many vectors, an ordinary session, and the index is what answers."""
    rows, width = store.HNSW_ABOVE + 500, 4
    with fresh_database.begin() as connection:
        run_id = start_run(connection, "pretrain")
        connection.execute(text("INSERT INTO mkmed.drug (identity, name, kind, run_id) SELECT 'user:' || g, 'drug ' || g,"
                                " 'unknown', :run FROM generate_series(1, :n) g"), {"run": run_id, "n": rows})
        ids = np.array(connection.execute(text("SELECT id FROM mkmed.drug ORDER BY id")).scalars().all())
    fused = unit(np.random.default_rng(0), rows, width)
    store.write_run(fresh_database, run_id, {"fused": (ids, fused)}, np.ones((rows, 6), bool))
    store.publish(fresh_database, run_id)
    with fresh_database.connect() as connection:
        question = str(fused[17].tolist())
        found = connection.execute(text("SELECT drug_id FROM mkmed.similar_to(CAST(:q AS vector), 10)"), {"q": question})
        found = found.scalars().all()
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
        assert connection.scalar(text(INDEX_SCANS), {"name": f"embedding_{run_id.hex}_fused"}) >= 1
    assert len(set(found) & set(ids[np.argsort(-(fused @ fused[17]))][:10].tolist())) >= 9


def test_the_names_of_the_nearest_are_all_that_is_read_of_the_drugs(fresh_database):
    """Ten names out of 5,000 drugs: a plan that joins reads every drug."""
    rows = 5_000
    with fresh_database.begin() as connection:
        run_id = start_run(connection, "pretrain")
        connection.execute(text("INSERT INTO mkmed.drug (identity, name, kind, run_id) SELECT 'user:' || g, 'drug ' || g,"
                                " 'unknown', :run FROM generate_series(1, :n) g"), {"run": run_id, "n": rows})
        ids = np.array(connection.execute(text("SELECT id FROM mkmed.drug ORDER BY id")).scalars().all())
        connection.execute(text("ANALYZE mkmed.drug"))
    fused = unit(np.random.default_rng(0), 300, 8)
    store.write_run(fresh_database, run_id, {"fused": (ids[:300], fused)}, np.ones((300, 6), bool))
    store.publish(fresh_database, run_id)
    read = text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE schemaname = 'mkmed'"
                " AND relname = 'drug'")
    call, counts = f"SELECT name FROM mkmed.similar_to('{fused[0].tolist()}', 10)", []
    for _ in range(2):
        with fresh_database.connect() as connection:
            assert len(connection.execute(text(call)).all()) == 10
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
            connection.commit()
            counts.append(connection.scalar(read))
    assert counts[1] - counts[0] < rows / 5


def test_above_the_limit_the_functions_use_the_index(database, drugs, published, monkeypatch):
    monkeypatch.setattr(store, "HNSW_ABOVE", 100)
    run_id, fused, _ = write(database, drugs, seed=2)
    store.publish(database, run_id)
    with database.connect() as connection:
        connection.execute(text("SET enable_seqscan = off"))
        rows = connection.execute(text("SELECT drug_id FROM mkmed.similar_drugs('drug 7', 10)")).scalars().all()
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
        assert connection.scalar(text(INDEX_SCANS), {"name": f"embedding_{run_id.hex}_fused"}) >= 1
    assert len(set(rows) & set(drugs[np.argsort(-(fused @ fused[6]))][1:11].tolist())) >= 9
    store.publish(database, published[0])
    store.drop(database, run_id)


def test_the_ingest_role_stores_publishes_and_drops_runs(database, drugs, published, monkeypatch):
    """It owns no table, and still needs no owner beside it to train."""
    monkeypatch.setattr(store, "HNSW_ABOVE", 100)
    with roles_lock():
        create_roles(database)
        ingest = create_engine(database.url, connect_args={"options": "-c role=mkmed_ingest -c search_path=mkmed,ext"})
        try:
            run_id, _, _ = write(ingest, drugs, seed=7)
            store.publish(ingest, run_id)
            with pytest.raises(DBAPIError, match="is published"), ingest.begin() as connection:
                connection.execute(text("CALL mkmed.drop_vector_tables(:r)"), {"r": run_id})
            with pytest.raises(DBAPIError, match="there is no run"), ingest.begin() as connection:
                connection.execute(text("CALL mkmed.make_vector_tables(gen_random_uuid(), ARRAY['fused'])"))
            store.publish(ingest, published[0])
            store.drop(ingest, run_id)
        finally:
            ingest.dispose()
            with database.begin() as connection:
                for role in ("mkmed_ingest", "mkmed_reader", "mkmed_nc"):
                    connection.execute(text(f"DROP OWNED BY {role}"))


@pytest.mark.parametrize("spoil", ["nan", "zero", "width", "unknown", "lacking", "rests_on"])
def test_bad_vectors_are_refused_and_leave_nothing(database, drugs, published, spoil):
    rng = np.random.default_rng(3)
    vectors = {"fused": (drugs, unit(rng, len(drugs), 64)), "text": (drugs, unit(rng, len(drugs), 64))}
    rests_on = np.ones((len(drugs), 6), bool)
    if spoil == "nan":
        vectors["fused"][1][5, 5] = np.nan
    elif spoil == "zero":
        vectors["text"][1][5] = 0
    elif spoil == "width":
        vectors["text"] = (drugs, unit(rng, len(drugs), 32))
    elif spoil == "unknown":
        vectors["smell"] = vectors["text"]
    elif spoil == "lacking":
        del vectors["fused"]
    else:
        rests_on = rests_on[:5]
    before = sql_rows(database, "SELECT count(*) FROM mkmed.embedding")
    with pytest.raises(DataError):
        store.write_run(database, uuid.uuid4(), vectors, rests_on)
    assert sql_rows(database, "SELECT count(*) FROM mkmed.embedding") == before


def test_killed_while_writing_leaves_no_trace(database, drugs, published):
    """A process that dies between load and commit must not leave a partition, a run or a mixture behind."""
    with database.begin() as connection:
        run_id = start_run(connection, "pretrain")
    script = textwrap.dedent(f"""
        import os, signal, uuid, numpy as np
        from embed.runs import store
        from kb.db.engine import engine_for
        from sqlalchemy import make_url
        engine = engine_for(make_url({database.url.render_as_string(hide_password=False)!r}))
        loaded = store._load
        def dying(*arguments):
            loaded(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        store._load = dying
        ids = np.array({drugs.tolist()})
        store.write_run(engine, uuid.UUID({str(run_id)!r}), {{"fused": (ids, np.eye(len(ids), 64, dtype=np.float32) + 1)}},
                        np.ones((len(ids), 6), bool))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sql_rows(database, "SELECT count(*) FROM mkmed.embedding_run WHERE run_id = :r", r=run_id)[0][0] == 0
    assert (
        sql_rows(database, "SELECT count(*) FROM pg_class WHERE relname LIKE :n", n=f"embedding_{run_id.hex}%")[0][0]
        == 0
    )
    assert store.published_run(database) == published[0]


def test_the_store_is_sound_and_each_check_can_fail(database, drugs, published):
    with database.connect() as connection:
        numbers = [c.number for c in verify(connection) if c.number.startswith("I5")]
        assert numbers == ["I5a", "I5b", "I5c"]
        assert not [c for c in verify(connection) if c.number in numbers and c.broken]
        for number, statement in {
            "I5a": "UPDATE mkmed.embedding SET embedding = '[1,2]'::vector WHERE modality = 'text'",
            "I5b": "UPDATE mkmed.embedding_run SET state = 'building'",
            "I5c": "UPDATE mkmed.embedding SET rests_on = 0 WHERE modality = 'fused'",
        }.items():
            connection.execute(text(statement))
            assert number in [c.number for c in verify(connection) if c.broken]
            connection.rollback()
