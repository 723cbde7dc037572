"""Every source's ingest killed again and again, and the server below it: nothing lost, gone on to the end, exit 0.

``MKT_KILLS`` sets the kills of each source's ingest (60), ``MKT_SERVER_KILLS`` those of the server below it (6).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest
from harness import ROOT, kill_postmaster, run_command, torture_home

from kb.db.server import DATABASE, Server, connect
from kb.output import say
from tests.standin.quick import NO_LIMITS
from tests.standin.server import StandIn

KILLS = int(os.environ.get("MKT_KILLS", "60"))
SERVER_KILLS = int(os.environ.get("MKT_SERVER_KILLS", "6"))
ROWS = 1500
TABULAR = ("--column", "key=id", "--column", "name=name", "--column", "smiles=smiles")
FACTS = {
    "tabular": "SELECT count(*), bit_xor(hashtextextended(key || coalesce(smiles, ''), 0)) FROM mkmed.drug_record",
    "rdkit": "SELECT count(*), bit_xor(hashtextextended(encode(artifact, 'hex'), 0)) FROM mkmed.property_set",
    "corpus": "SELECT (SELECT count(*) FROM mkmed.drug_record), (SELECT count(*) FROM mkmed.text) + (SELECT count(*) FROM"
              " mkmed.kg_triple) + (SELECT count(*) FROM mkmed.conformer) + (SELECT count(*) FROM mkmed.drug_atc)",
    "drkg": "SELECT count(*), bit_xor(hashint8((head::bigint << 32) | tail)) FROM mkmed.kg_triple",
    "pubchem": "SELECT count(*), count(*) FILTER (WHERE state IN ('unknown', 'failed')) FROM mkmed.cell",
}
GROWS = "SELECT (SELECT count(*) FROM mkmed.artifact) + (SELECT count(*) FROM mkmed.cell)"


def arguments(source: str, folder: Path) -> tuple[str, ...]:
    """What follows ``mkmed kb ingest`` for a source, with its input written below ``folder``."""
    path = folder / f"{source}.csv"
    if source == "tabular":
        rows = [f"c{n},compound {n},{'C' * (n % 40 + 1)}{'O' * (n // 40 % 40 + 1)}" for n in range(ROWS)]
        path.write_text("\n".join(["id,name,smiles", *rows]) + "\n")
        return ("--source", source, "--path", str(path), *TABULAR)
    if source == "drkg":
        path = folder / "drkg.tsv"
        path.write_text("".join(f"Compound::DB{n % 3000:05}\tDRUGBANK::treats::Compound:Disease\tDisease::MESH:D{n:06}\n"
                                for n in range(150_000)))
        return ("--source", source, "--path", str(path), "--allow-subset")
    if source == "pubchem":
        path.write_text("\n".join(["2244", "4091", "14219", "8057", "2349", "190", "3672", "2519"]) + "\n")
        return ("--source", source, "--ids", str(path))
    return ("--source", source, *(("--modality", "property") if source == "rdkit" else ("--limit", "500")))


def start(home: Path, given: tuple[str, ...], **more: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MKMED_")}
    return subprocess.Popen([sys.executable, "-m", "cli", "-q", "kb", "ingest", *given], cwd=ROOT, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
                            env=clean | {"MKMED_HOME": str(home), "MKMED_WORKERS": "1"} | more)


def ask(home: Path, query: str) -> tuple[int, ...]:
    """The numbers of one row; empty while the server does not answer."""
    running = Server(home).running()
    if running is None:
        return ()
    try:
        connection = connect(running.socket, DATABASE)
        with connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        connection.close()
    except psycopg2.Error:
        return ()
    return tuple(int(value or 0) for value in row)


def empty(home: Path) -> None:
    """Forget everything that was ingested."""
    running = Server(home).running()
    connection = connect(running.socket, DATABASE)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relkind = 'r' AND NOT relispartition"
                       " AND relnamespace = 'mkmed'::regnamespace AND relname <> 'alembic_version'")
        cursor.execute(f"TRUNCATE {cursor.fetchone()[0]} CASCADE")
    connection.close()


@pytest.mark.parametrize("source", list(FACTS))
def test_killed_and_gone_on(seed: int, source: str, tmp_path: Path) -> None:
    """Kills of the ingest, then of the server below it; the end is that of a run that nobody touched."""
    chance = random.Random(f"{seed} {source}")
    with torture_home() as home, StandIn(NO_LIMITS, latency=0.02) as standin:
        more = {"MKMED_PUBCHEM_URL": standin.url, "MKMED_REQUESTS_PER_SECOND": "5", "MKMED_CONTACT": "t@example.org"}
        assert run_command("-q", "db", "start", home=home).returncode == 0
        given = arguments(source, tmp_path)

        def prepare() -> None:
            empty(home)
            if source == "rdkit":
                filling = start(home, arguments("tabular", tmp_path))
                _, said = filling.communicate(timeout=300)
                assert filling.returncode == 0, said

        prepare()
        untouched = start(home, given, **more)
        began = time.monotonic()
        _, said = untouched.communicate(timeout=600)
        assert untouched.returncode == 0, said
        length, truth = time.monotonic() - began, ask(home, FACTS[source])
        kills = 0
        while kills < KILLS:
            prepare()
            while kills < KILLS:
                process = start(home, given, **more)
                try:  # what is killed early goes on where it stood, so that all of the work is met
                    _, said = process.communicate(timeout=chance.uniform(0.15, 1.05) * length)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.communicate()
                    kills += 1
                    continue
                assert process.returncode == 0, said
                break
        last = start(home, given, **more)
        _, said = last.communicate(timeout=600)
        assert last.returncode == 0, said
        assert ask(home, FACTS[source]) == truth, "the end of a run that was killed is another one"
        below = 0
        while below < SERVER_KILLS:
            prepare()
            process, seen, deadline = start(home, given, **more), (0,), time.monotonic() + 600
            while process.poll() is None and time.monotonic() < deadline:
                now = ask(home, GROWS)
                if now > seen and below < SERVER_KILLS:
                    seen = now
                    time.sleep(chance.uniform(0, 0.3))
                    if process.poll() is None and kill_postmaster(home):
                        below += 1
                time.sleep(0.02)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 0, said
            assert run_command("-q", "db", "start", home=home).returncode == 0
            assert ask(home, FACTS[source]) == truth, "something was lost with the server"
        assert run_command("-q", "kb", "verify", home=home).returncode == 0
    say(f"\n{source}: {kills} kills of the ingest, {below} of the server, 0 lost; a run takes {length:.1f} s")
