"""The pubchem source from end to end: a stand-in, a real Postgres, and what lies in it afterwards."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from kb.errors import Blocked, Incomplete, MkmedError, SourceError, Transient, UsageError
from kb.ingest.engine import Summary, ingest, plan
from kb.ledger.verify import verify
from kb.sources.contract import Document, IngestOptions
from kb.sources.pubchem.source import PubChem
from tests.standin import catalogue
from tests.standin.faults import Reply
from tests.standin.quick import FAST, NO_LIMITS, settings_in
from tests.standin.server import StandIn

POLICY = replace(FAST, per_second=1000, blocks=10**6, attempts=4, first_wait=0.002, first_pause=0.01,
                 longest_pause=0.02, give_up_after=60)
SOME = ("2244", "4091", "14219", "8057", "2349", "190")


def document_of(payload: bytes) -> Document:
    return Document("pubchem", "https://x", "application/json", "LicenseRef-NCBI", "", datetime.now(UTC), "t", payload)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PubChem, "policy", POLICY)


def run(engine: Engine, standin: StandIn, home: Path, ids: tuple[str, ...] | None = SOME, **options: Any) -> Summary:
    settings = settings_in(home, pubchem_url=standin.url, contact="tests@example.org")
    return ingest(engine, settings, "pubchem", IngestOptions(ids=ids, **options))


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def cells(engine: Engine) -> dict[tuple[str, str], tuple[str, bytes | None]]:
    """State and sha256 of every cell, by the drug's identity and the modality."""
    found = rows(engine, "SELECT d.identity, c.modality, c.state, a.content FROM cell c JOIN drug d ON d.id = drug_id"
                         " LEFT JOIN artifact a ON a.id = c.artifact")
    return {(i, m): (s, bytes(a) if a else None) for i, m, s, a in found}


def sound(engine: Engine) -> bool:
    with engine.begin() as connection:
        broken = [check for check in verify(connection) if check.broken]
    assert not broken
    return True


@pytest.fixture
def engine(fresh_database: Engine) -> Iterator[Engine]:
    yield fresh_database


def test_everything_about_everything(engine: Engine, tmp_path: Path) -> None:
    every = tuple(str(cid) for cid in catalogue.compounds())
    with StandIn(NO_LIMITS) as standin:
        summary = run(engine, standin, tmp_path, every)
        assert summary.counts["requests"] == standin.requests
        assert max(n for (endpoint, _), n in standin.asked.items() if endpoint in ("png", "view", "property")) == 1
        before, asked = cells(engine), standin.requests
        tables = "SELECT count(*), max(xmin::text::bigint) FROM "
        changes = [rows(engine, tables + t) for t in ("cell", "lookup", "drug", "image", "text", "artifact")]
        assert run(engine, standin, tmp_path, every).counts["requests"] == 0
        assert run(engine, standin, tmp_path, None).counts["requests"] == 0
        assert standin.requests == asked, "a finished ingest asks for nothing"
        assert cells(engine) == before
        assert [rows(engine, tables + t) for t in ("cell", "lookup", "drug", "image", "text", "artifact")] == changes
    states = {(m, s): n for m, s, n in rows(engine, "SELECT modality, state, count(*) FROM cell GROUP BY 1, 2")}
    flat = {cid for cid in catalogue.compounds() if cid not in catalogue.conformers()}
    saved = {c for c in flat if (p := catalogue.parent(c)) and p != c and p in catalogue.conformers()}
    silent = {cid for cid in catalogue.compounds() if cid % catalogue.SILENT == 0 and cid not in (2349, 8057)}
    total = len(catalogue.compounds())
    assert states == {
        ("identity", "present"): total, ("property", "present"): total, ("image", "present"): total,
        ("structure", "present"): total - len(flat) + len(saved), ("structure", "absent"): len(flat) - len(saved),
        ("text", "present"): total - len(silent), ("text", "absent"): len(silent),
    }
    assert saved, "salts reach their parent's conformer"
    assert sound(engine)


def test_every_fact_has_its_source_and_licence(engine: Engine, tmp_path: Path) -> None:
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, tmp_path, ("aspirin", "DB00945", "metformin hydrochloride"))
        ((payload, url, status),) = rows(engine, """
            SELECT b.payload, a.url, a.http_status FROM image i JOIN artifact a ON a.id = i.artifact
            JOIN content b ON b.sha256 = a.content JOIN drug_record r USING (drug_id) WHERE r.key = 'pubchem.compound:2244'""")
        assert (bytes(payload), status) == (catalogue.png(2244, 300), 200)
        assert url.startswith(standin.url)
    assert rows(engine, "SELECT DISTINCT a.licence_id FROM text t JOIN artifact a ON a.id = t.artifact JOIN drug_record r"
                        " USING (drug_id) WHERE r.key = 'pubchem.compound:2244'") == [("CC-BY-NC-4.0",)], "it quotes DrugBank"
    texts = rows(engine, "SELECT provider, licence_id, is_note, content FROM text t JOIN drug_record r USING (drug_id)"
                         " WHERE r.key = 'pubchem.compound:2244' ORDER BY 1")
    assert [row[:3] for row in texts] == [("ChEBI", "CC-BY-4.0", False), ("DrugBank", "CC-BY-NC-4.0", False),
                                          ("PubChem", "LicenseRef-NCBI", True)]
    assert rows(engine, "SELECT note FROM conformer WHERE note IS NOT NULL") == [
        ("of the parent compound, pubchem.compound:4091",)]
    ((values,),) = rows(engine, 'SELECT "values" FROM property_set JOIN drug_record r USING (drug_id)'
                                " WHERE r.key = 'pubchem.compound:2244'")
    assert (values["mol_weight"], values["heavy_atoms"]) == (180.16, 13)
    assert rows(engine, "SELECT value FROM identifier WHERE namespace = 'drugbank'") == [("DB00945",)]


def test_each_way_of_asking(engine: Engine, tmp_path: Path) -> None:
    ids = ("acetylsalicylic acid", "cid:4091", "CC(=O)OC1=CC=CC=C1C(=O)O", "GFFGJBXGBJISGV-UHFFFAOYSA-N", "DB00945",
           "unheard of", "DB99999", "smiles:C1CC1CCCC", "999999999", "not-a-structure", "atc:N02BA01")
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, tmp_path, ids, modalities=("image",))
        found = dict(rows(engine, "SELECT key, state FROM lookup"))
        run(engine, standin, tmp_path, ids, modalities=("image",))
        assert run(engine, standin, tmp_path, ids, modalities=("image",)).counts["requests"] == 0
    assert {k for k, s in found.items() if s == "absent"} == {
        "name:unheard of", "drugbank:DB99999", "smiles:C1CC1CCCC", "pubchem.compound:999999999"}
    assert {k for k, s in found.items() if s == "rejected"} == {"name:not-a-structure"}
    assert {k for (k,) in rows(engine, "SELECT key FROM drug_record")} == {
        f"pubchem.compound:{cid}" for cid in (190, 2244, 4091)}
    linked = rows(engine, "SELECT count(DISTINCT drug_id), count(*) FROM lookup WHERE state = 'present'")
    assert linked == [(3, 7)]
    assert sound(engine)


def test_a_drugbank_id_reaches_a_compound_that_is_known(engine: Engine, tmp_path: Path) -> None:
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, tmp_path, ("2244", "4091"), modalities=("image",))
        assert run(engine, standin, tmp_path, ("aspirin",), modalities=("image",)).counts["requests"] == 1
        assert run(engine, standin, tmp_path, ("DB00945",), modalities=("image",)).counts["requests"] == 4
        assert run(engine, standin, tmp_path, ("DB00945",), modalities=("image",)).counts["requests"] == 0
    assert rows(engine, "SELECT value FROM identifier WHERE namespace = 'drugbank'") == [("DB00945",)]
    assert rows(engine, "SELECT count(*) FROM lookup WHERE drug_id IS NULL") == [(0,)]


def test_lists_that_take_too_long_are_halved(engine: Engine, tmp_path: Path) -> None:
    def slow(method: str, path: str, cids: list[int]) -> str | None:
        return "504 timeout" if len(cids) > 30 else None

    with StandIn(NO_LIMITS, fault=slow) as standin:
        run(engine, standin, tmp_path, tuple(str(cid) for cid in catalogue.compounds()), modalities=("structure",))
    assert rows(engine, "SELECT count(*) FROM cell WHERE state IN ('failed', 'unknown') AND modality = 'property'") == [
        (0,)]
    assert rows(engine, "SELECT count(*) FROM drug") == [(len(catalogue.compounds()),)]


def test_what_is_missing_from_a_list_is_asked_again_alone(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    whole = catalogue.properties
    monkeypatch.setattr(catalogue, "properties", lambda cids, tags: whole([c for c in cids if c != 4091], tags))
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, tmp_path, (*SOME, "999999999"), modalities=("image",))
        assert standin.asked["record", 4091] == 1
        assert standin.asked["record", 999999999] == 1
    assert rows(engine, "SELECT state FROM lookup WHERE key = 'pubchem.compound:4091'") == [("present",)]
    assert rows(engine, "SELECT state FROM lookup WHERE key = 'pubchem.compound:999999999'") == [("absent",)]
    ((values,),) = rows(engine, 'SELECT "values" FROM property_set JOIN drug_record USING (drug_id)'
                                " WHERE key = 'pubchem.compound:4091'")
    assert values["mol_weight"] == 129.17, "read from the full record by PubChemPy"


def test_failures_are_told_and_can_be_tried_again(engine: Engine, tmp_path: Path) -> None:
    def broken(method: str, path: str, cids: list[int]) -> str | None:
        return "200 html as data" if "PNG" in path and cids == [2244] else None

    with StandIn(NO_LIMITS, fault=broken) as standin:
        with pytest.raises(Incomplete) as caught:
            run(engine, standin, tmp_path)
        assert caught.value.exit_code == 3
        assert rows(engine, "SELECT state, count(*) FROM cell WHERE modality = 'image' GROUP BY 1 ORDER BY 1") == [
            ("failed", 1), ("present", 5)]
        standin.fault = None
        assert run(engine, standin, tmp_path).counts["requests"] == 0, "failed cells wait until they are asked for"
        assert run(engine, standin, tmp_path, retry_failed=True).counts["requests"] == 1
    assert rows(engine, "SELECT count(*) FROM cell WHERE state = 'failed'") == [(0,)]
    assert sound(engine)


def test_refresh_fetches_what_is_old_and_learns(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, tmp_path)
        before = cells(engine)
        assert run(engine, standin, tmp_path, refresh_days=30).counts["requests"] == 0
        assert run(engine, standin, tmp_path, refresh_days=0).counts["requests"] > 0
        assert cells(engine) == before, "the same answers change nothing"
        monkeypatch.setattr(catalogue, "SILENT", 1)
        original = catalogue.png
        monkeypatch.setattr(catalogue, "png", lambda cid, size: original(cid + 1, size))
        run(engine, standin, tmp_path, refresh_days=0)
    after = cells(engine)
    assert all(after[key] != before[key] for key in before if key[1] == "image")
    assert {after[key][0] for key in after if key[1] == "text"} == {"absent", "present"}
    assert rows(engine, "SELECT count(*) FROM text WHERE provider = 'ChEBI'") == [(0,)]
    assert sound(engine)


def test_a_mistake_of_ours_is_raised(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("kb.sources.pubchem.ask.COMPOUND", "/pug/compounds")
    with StandIn(NO_LIMITS) as standin, pytest.raises(SourceError, match="rejects the request"):
        run(engine, standin, tmp_path)
    assert rows(engine, "SELECT count(*) FROM cell") == [(0,)]


def test_a_refused_heading_is_no_absence(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    whole = catalogue.view
    monkeypatch.setattr(catalogue, "view", lambda cid, heading: None if cid == 2244 else whole(cid, heading))
    from tests.standin import server
    from tests.standin.faults import fault_body

    true = server.fault_body

    def refused(code: str, message: str, status: int) -> Any:
        return fault_body("PUGVIEW.BadRequest", "no", 400) if code.startswith("PUGVIEW") else true(code, message, status)

    monkeypatch.setattr(server, "fault_body", refused)
    with StandIn(NO_LIMITS) as standin, pytest.raises(Incomplete):
        run(engine, standin, tmp_path, ("2244", "4091"), modalities=("text",))
    assert rows(engine, "SELECT DISTINCT state FROM cell WHERE modality = 'text' ORDER BY 1") == [
        ("failed",), ("present",)]


def test_a_refusing_service_ends_the_run_in_good_order(engine: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(PubChem, "policy", replace(POLICY, blocks=3, attempts=20))
    with StandIn(NO_LIMITS, fault=lambda m, path, c: "429 html" if "PNG" in path else None) as standin:
        with pytest.raises(Blocked) as caught:
            run(engine, standin, tmp_path)
        assert caught.value.exit_code == 75
        assert rows(engine, "SELECT count(*) FROM cell WHERE state = 'failed'") == [(0,)]
        standin.fault = None
        time.sleep(0.05)
        run(engine, standin, tmp_path)
    assert rows(engine, "SELECT count(*) FROM cell WHERE state IN ('failed', 'unknown')") == [(0,)]


def test_a_dead_service_ends_the_run(engine: Engine, tmp_path: Path) -> None:
    every = tuple(str(cid) for cid in catalogue.compounds())
    with StandIn(NO_LIMITS, fault=lambda m, path, c: "500 unknown" if "PNG" in path else None) as standin:
        with pytest.raises(Transient, match="one after the other"):
            run(engine, standin, tmp_path, every, modalities=("image",))
        assert standin.requests < 4 * len(every)


def _child(database: Any, url: str, home: Path, ids: tuple[str, ...], modalities: tuple[str, ...] | None) -> None:
    """An ingest in a process of its own; leaves with the exit code of what it raises."""
    from kb.db.engine import engine_for

    PubChem.policy = POLICY
    settings = settings_in(home, pubchem_url=url, contact="tests@example.org")
    try:
        ingest(engine_for(database), settings, "pubchem", IngestOptions(ids=ids, modalities=modalities))
    except MkmedError as error:
        raise SystemExit(error.exit_code) from None


SPAWN = multiprocessing.get_context("spawn")
EVERY = tuple(str(cid) for cid in catalogue.compounds())


@pytest.mark.slow
def test_several_processes_share_the_work(engine: Engine, tmp_path: Path) -> None:
    with StandIn(NO_LIMITS, latency=0.03) as standin:
        arguments = (engine.url, standin.url, tmp_path, EVERY, ("image", "text"))
        workers = [SPAWN.Process(target=_child, args=arguments) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        twice = {key: n for key, n in standin.asked.items() if n > 1 and key[0] in ("png", "view", "property")}
        assert not twice
    shares = rows(engine, "SELECT run_id, count(*) FROM cell WHERE modality IN ('image', 'text') GROUP BY 1")
    assert len(shares) > 1, "more than one process had a share"
    assert rows(engine, "SELECT DISTINCT state FROM cell WHERE modality = 'image'") == [("present",)]
    assert sound(engine)


INTERRUPTED = """
from kb import interrupts
interrupts.while_loading()  # before anything starts a thread, as the program does
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sqlalchemy import make_url
from test_pubchem import EVERY, _child
interrupts.while_running()
_child(make_url({database!r}), {url!r}, Path({home!r}), EVERY, None)
"""


def test_ctrl_c_keeps_what_came_and_goes_on_later(engine: Engine, tmp_path: Path) -> None:
    with StandIn(NO_LIMITS, latency=0.25) as standin:
        database = engine.url.render_as_string(hide_password=False)
        code = INTERRUPTED.format(tests=str(Path(__file__).parent), database=database, url=standin.url, home=str(tmp_path))
        worker = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
        while standin.guard.served < 30 and worker.poll() is None:
            time.sleep(0.01)
        worker.send_signal(signal.SIGINT)
        stopped = time.monotonic()
        assert worker.wait(60) == 130
        assert time.monotonic() - stopped < 5
        assert rows(engine, "SELECT status FROM run") == [("interrupted",)]
        assert sound(engine)
        standin.latency = 0
        served = standin.requests
        run(engine, standin, tmp_path, EVERY)
        assert max(n for (endpoint, _), n in standin.asked.items() if endpoint in ("png", "view")) == 1
        assert standin.requests > served
    assert rows(engine, "SELECT count(*) FROM cell WHERE state IN ('unknown', 'failed')") == [(0,)]


def test_the_estimate_asks_nothing(engine: Engine, tmp_path: Path) -> None:
    with StandIn(NO_LIMITS) as standin:
        settings = settings_in(tmp_path, pubchem_url=standin.url)
        options = IngestOptions(ids=SOME)
        estimate = plan(engine, settings, "pubchem", options)
        assert (estimate.keys, standin.requests) == (6, 0)
        assert estimate.bytes > 0 and estimate.seconds > 0
        needed = run(engine, standin, tmp_path).counts["requests"]
        assert 0.5 <= estimate.requests / needed <= 2
        assert plan(engine, settings, "pubchem", options).requests == 0


def test_limit_and_wrong_options(engine: Engine, tmp_path: Path) -> None:
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, tmp_path, limit=2)
        assert rows(engine, "SELECT count(*) FROM drug") == [(2,)]
        with pytest.raises(UsageError):
            run(engine, standin, tmp_path, ("atc:N02BA01",))
        with pytest.raises(UsageError, match="graph"):
            run(engine, standin, tmp_path, modalities=("graph",))


def test_further_headings_come_with_their_own_sources_and_licences(fresh_database: Engine, tmp_path: Path) -> None:
    with StandIn(NO_LIMITS) as standin:
        settings = settings_in(tmp_path, pubchem_url=standin.url, contact="tests@example.org")

        def run(*headings: str) -> dict[str, int]:
            options = IngestOptions(ids=("2244", "4091"), modalities=("text",), headings=headings or None)
            return ingest(fresh_database, settings, "pubchem", options).counts

        run("mechanism", "indication", "pharmacology", "atc")
        with fresh_database.begin() as connection:
            said = connection.execute(text("SELECT heading, provider, licence_id FROM mkmed.texts"
                                           " WHERE heading <> 'Record Description' ORDER BY 1, 2")).all()
            assert [tuple(row) for row in said] == [
                ("Drug Indication", "NCI Thesaurus (NCIt)", "CC-BY-4.0"), ("Mechanism of Action", "DrugBank", "CC-BY-NC-4.0"),
                ("Mechanism of Action", "NCI Thesaurus (NCIt)", "CC-BY-4.0")]
            codes = connection.execute(text("SELECT code, licence_id FROM mkmed.atc ORDER BY 1")).all()
            assert [tuple(row) for row in codes] == [("B01AC06", "LicenseRef-provider-terms"), ("N02BA01", "LicenseRef-provider-terms")]
            assert [check for check in verify(connection) if check.broken] == []
            connection.execute(text("SET LOCAL mkmed.open_only = 'on'"))
            assert connection.scalar(text("SELECT count(*) FROM mkmed.texts WHERE content LIKE 'Shut:%'")) == 0
            assert connection.scalar(text("SELECT count(*) FROM mkmed.atc")) == 0
        asked = standin.requests
        assert run("mechanism").get("rows", 0) == 0 and standin.requests == asked
        with pytest.raises(UsageError, match="no heading toxicity"):
            run("toxicity")


def test_targets_come_by_source_each_under_its_licence(fresh_database: Engine, tmp_path: Path) -> None:
    """What PUG View quotes is told with its licence; a source that no reference names is closed."""
    with StandIn(NO_LIMITS) as standin:
        options: dict[str, Any] = {"ids": ("2244", "4091"), "modalities": ("text",), "headings": ("targets",)}
        settings = settings_in(tmp_path, pubchem_url=standin.url, contact="tests@example.org")
        expected = plan(fresh_database, settings, "pubchem", IngestOptions(**options)).requests
        run(fresh_database, standin, tmp_path, **options)
        assert standin.requests <= expected
    said = rows(fresh_database, "SELECT provider, licence_id, content FROM mkmed.texts WHERE heading = 'Chemical-Target Interactions'"
                                " ORDER BY 1")
    assert said == [
        ("A source that no reference names", "LicenseRef-unstated", "AKR1C1"),
        ("DrugBank", "CC-BY-NC-4.0", "Albumin (ALB, P02768, Homo sapiens (human)): binder\n"
                                     "Prostaglandin G/H synthase 1 (PTGS1, P23219, Homo sapiens (human)): inhibitor"),
        ("NCI Thesaurus (NCIt)", "CC-BY-4.0", "COX-2 (PTGS2): IC50 (nM) 2.4e+3")]
    assert sound(fresh_database)


def test_a_table_of_another_compound_is_not_taken(fresh_database: Engine, tmp_path: Path) -> None:
    """The service was seen to pass over the CID that it was asked for; the drug's texts are asked for again later."""
    def change(endpoint: str, cids: list[int], reply: Reply) -> Reply:
        return replace(reply, body=reply.body.replace(b'"2244"', b'"5291"')) if endpoint == "targets" else reply

    with StandIn(NO_LIMITS) as standin:
        standin.change = change
        run(fresh_database, standin, tmp_path, ids=("2244",), modalities=("text",), headings=("targets",))
    states = rows(fresh_database, "SELECT state, last_error FROM cell WHERE modality = 'text'")
    assert states == [("rejected", "the answer cannot be used: the table of targets is that of CID 5291, which was not asked for")]
    with StandIn(NO_LIMITS) as standin:
        run(fresh_database, standin, tmp_path, ids=("2244",), modalities=("text",), headings=("targets",), retry_failed=True)
    assert rows(fresh_database, "SELECT count(*) FROM mkmed.texts WHERE heading = 'Chemical-Target Interactions'") == [(3,)]
