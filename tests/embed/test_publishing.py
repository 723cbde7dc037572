"""Publishing that nobody notices: readers hammer all public functions while runs of three widths come, go and die."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from sqlalchemy import text
from test_store import drugs, unit  # noqa: F401

from embed.runs import store
from kb.ledger.entries import start_run

WIDTHS = (16, 32, 64)
PUBLISHES = 20
NEAR = 5
READS = {
    "similar_drugs": "SELECT array_agg(drug_id ORDER BY similarity DESC, drug_id) FROM mkmed.similar_drugs('drug 7', 5)",
    "similar_across": "SELECT array_agg(drug_id) FROM mkmed.similar_across('drug 7', 'fused', 'text', 5)",
    "similar_to": "SELECT count(*) FROM mkmed.similar_to(mkmed.vector_of('drug 7'), 5)",
    "drug_vector": "SELECT array_agg(DISTINCT run_id::text || vector_dims(embedding)) FROM mkmed.drug_vector",
    "modality_vector": "SELECT array_agg(DISTINCT run_id::text || vector_dims(embedding)) FROM mkmed.modality_vector",
    "mine": "SELECT count(DISTINCT dims) FROM public.mine",
}


class Reader(threading.Thread):
    """Asks everything in turn; a statement that waits for a lock for 100 ms fails."""

    def __init__(self, database, seed):
        super().__init__()
        self.database, self.order = database, random.Random(seed)
        self.stop, self.failures, self.seconds, self.answers = threading.Event(), [], [], []

    def run(self):
        with self.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET lock_timeout = '100ms'"))
            while not self.stop.is_set():
                name = self.order.choice(list(READS))
                started = time.perf_counter()
                try:
                    answer = connection.scalar(text(READS[name]))
                except Exception as error:
                    self.failures.append((name, str(error)[:300]))
                    continue
                self.seconds.append(time.perf_counter() - started)
                self.answers.append((name, answer))
            connection.execute(text("RESET lock_timeout"))  # the pool hands this session to publishers next


def make(database, drugs, seed):  # noqa: F811
    """A run that is written: its id, and what each question must answer when it is published."""
    rng = np.random.default_rng(seed)
    width = WIDTHS[seed % len(WIDTHS)]
    with database.begin() as connection:
        run_id = start_run(connection, "pretrain")
    fused, texts = unit(rng, len(drugs), width), unit(rng, len(drugs) // 2, width)
    rests_on = np.ones((len(drugs), 6), bool)
    store.write_run(database, run_id, {"fused": (drugs, fused), "text": (drugs[::2], texts)}, rests_on)
    near = drugs[np.argsort(-(fused @ fused[6]), kind="stable")][1:NEAR + 1].tolist()
    across = drugs[::2][np.argsort(-(texts @ fused[6]), kind="stable")][:NEAR].tolist()
    return run_id, near, across, f"{run_id}{width}"


DYING = """
    import os, signal, sys, threading, uuid
    import numpy as np
    from embed.runs import store
    from kb.db.engine import engine_for
    from sqlalchemy import event, make_url
    engine = engine_for(make_url({url!r}))
    step = {step!r}
    def die(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)
    if step == "load":
        store._load = die
    elif step == "attach":
        def attached(connection, cursor, statement, *rest):
            if "attach_vector_tables" in statement:
                die()
        event.listen(engine, "after_cursor_execute", attached)
    else:
        store._require_sound = die
    ids = np.array({ids})
    run = uuid.UUID({run!r})
    if step != "publish":
        vectors = np.random.default_rng(9).normal(size=(len(ids), 48)).astype(np.float32)
        store.write_run(engine, run, {{"fused": (ids, vectors)}}, np.ones((len(ids), 6), bool))
    store.publish(engine, run)
"""


def die(database, drugs, step, published):  # noqa: F811
    """A process that is killed while it loads, has attached, or is about to publish."""
    with database.begin() as connection:
        run_id = start_run(connection, "pretrain") if step != "publish" else published
    url = database.url.render_as_string(hide_password=False)
    script = textwrap.dedent(DYING).format(url=url, step=step, ids=drugs.tolist(), run=str(run_id))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
def test_readers_notice_nothing(database, drugs, record_property):  # noqa: F811
    first = make(database, drugs, 0)
    store.publish(database, first[0])
    with database.begin() as connection:
        connection.execute(text("CREATE VIEW public.mine AS SELECT vector_dims(embedding) AS dims FROM mkmed.drug_vector"))
    readers = [Reader(database, seed) for seed in range(3)]
    made = [first]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, PUBLISHES + 1):
            made.append(make(database, drugs, number))
            if number % 5 == 0:
                die(database, drugs, ("load", "attach", "publish")[number // 5 % 3], made[-1][0])
            store.publish(database, made[-1][0])
            if number > 3:
                time.sleep(0.05)  # a statement that began under the run before has ended
                store.drop(database, made[number - 3][0])
    finally:
        for reader in readers:
            reader.stop.set()
        for reader in readers:
            reader.join()
    assert [failure for reader in readers for failure in reader.failures] == []
    allowed = {
        "similar_drugs": [one[1] for one in made], "similar_across": [one[2] for one in made], "similar_to": [NEAR],
        "drug_vector": [[one[3]] for one in made], "modality_vector": [[one[3]] for one in made], "mine": [1],
    }
    answers = [pair for reader in readers for pair in reader.answers]
    assert [pair for pair in answers if pair[1] not in allowed[pair[0]]] == []
    assert {name for name, _ in answers} == set(READS) and len(answers) > 10 * PUBLISHES
    assert len({tuple(answer) for name, answer in answers if name == "drug_vector"}) > len(WIDTHS)
    with database.connect() as connection:
        left = connection.scalars(text("SELECT relname FROM pg_class WHERE relname ~ '^embedding_[0-9a-f]{32}$'")).all()
        known = connection.scalars(text("SELECT 'embedding_' || replace(run_id::text, '-', '') FROM mkmed.embedding_run")).all()
    assert sorted(left) == sorted(known)
    seconds = np.sort(np.concatenate([reader.seconds for reader in readers]))
    shown = {share: round(1000 * float(np.quantile(seconds, share)), 1) for share in (0.5, 0.95, 0.99, 0.999, 1.0)}
    record_property("milliseconds by quantile", shown)
    print(f"{len(seconds):,} answers; milliseconds by quantile: {shown}")  # noqa: T201


def test_two_publishers_take_turns(database, drugs):  # noqa: F811
    """Two at once with different widths: one follows the other, and the view agrees with the row."""
    runs = [make(database, drugs, 100 + k) for k in range(4)]
    threads = [threading.Thread(target=store.publish, args=(database, one[0])) for one in runs for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    published = str(store.published_run(database))
    with database.connect() as connection:
        found = connection.scalar(text(READS["drug_vector"]))
    assert found == [next(one[3] for one in runs if str(one[0]) == published)]


@pytest.mark.parametrize("width", [16, 48])
def test_an_update_is_seen_whole_or_not_at_all(database, drugs, width):  # noqa: F811
    run_id, _, _, _ = make(database, drugs, 200 + WIDTHS.index(16) if width == 16 else 201)
    store.publish(database, run_id)
    seen, stop = set(), threading.Event()

    def read():
        query = text("SELECT count(*) FROM mkmed.drug_vector WHERE (embedding <=> (SELECT embedding FROM mkmed.drug_vector"
                     " ORDER BY drug_id LIMIT 1)) < 0.0001")
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not stop.is_set():
                seen.add(connection.scalar(query))

    reader = threading.Thread(target=read)
    reader.start()
    own = store.read(database, run_id).matrix.shape[1]
    one = np.ones((len(drugs), own), np.float32)
    origin = store.VectorOrigin(None, drugs, np.zeros((len(drugs), 32), np.uint8))
    store.patch_run(database, run_id, {"fused": (drugs, one)}, np.ones((len(drugs), 6), bool), origin, drugs[:0])
    time.sleep(0.2)
    stop.set()
    reader.join()
    assert seen <= {1, len(drugs)} and len(drugs) in seen
