"""The log: every line of a long command with its run, the owner's alone, nothing of a patient, no secret."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine

import cli
from kb import log, output
from kb.errors import ConfigError
from kb.log import LogFormat, open_log
from tests.test_serve import answers, client  # noqa: F401

ROOT = Path(__file__).parent.parent
CANARY = "CANARY4711"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def opened(tmp_path):
    """A log of JSON lines, closed at the end."""
    path = tmp_path / "mkmed.log"
    open_log(path, LogFormat.json, "kb", "kb ingest", "1.0")
    yield path
    log.close()


def test_an_ingest_is_logged_with_its_run(database_environment: Engine, tmp_path, capsys):
    table, path = tmp_path / "mine.csv", tmp_path / "a.log"
    table.write_text("NAME,SMILES\nphenformin,N=C(N)NC(=N)NCCc1ccccc1\nbroken,notasmiles\n")
    assert cli.run(["-q", "--log-file", str(path), "--log-format", "json", "kb", "ingest", "--source", "tabular", "--path", str(table),
                    "--dataset", "mine", "--column", "name=NAME", "--column", "smiles=SMILES"]) == 0
    assert "dataset" not in capsys.readouterr().err, "-q is about stderr"
    told = lines(path)
    assert [line["message"] for line in told][::len(told) - 1] == ["begun", "ended"]
    assert {line["command"] for line in told} == {"kb ingest"} and {line["pid"] for line in told} == {os.getpid()}
    with database_environment.connect() as connection:
        run = str(connection.exec_driver_sql("SELECT id FROM mkmed.run WHERE stage = 'ingest'").scalar_one())
    begun = next(i for i, line in enumerate(told) if line["message"] == "run begun")
    assert {line["run"] for line in told[begun:]} == {run} and {line["run"] for line in told[:begun]} == {None}
    ended = next(line for line in told if line["message"] == "run ended")
    assert ended["status"] == "complete" and ended["counts"]["drugs"] == 2 and told[-1]["exit_code"] == 0
    assert any(line["logger"] == "cli.said" for line in told), "what is said is logged, with -q as well"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failure_is_logged_with_type_and_exit_code(database_environment, tmp_path):
    path = tmp_path / "a.log"
    assert cli.run(["--log-file", str(path), "--log-format", "json", "kb", "show", "nonsense-drug"]) == 1
    failed, ended = lines(path)[-2:]
    assert failed["error"] == "NotFound" and failed["level"] == "ERROR" and "nonsense-drug" in failed["message"]
    assert ended["exit_code"] == 1


def test_without_a_log_a_failure_is_told_once(database_environment, capsys):
    assert log._Open.handler is None and cli.run(["kb", "show", "nonsense-drug"]) == 1
    assert capsys.readouterr().err.count("nonsense-drug") == 1, "Python's logging writes to stderr what nobody takes"


def test_what_a_patient_has_is_told_and_not_logged(database_environment, tmp_path, capsys):
    path, visit = tmp_path / "a.log", tmp_path / "patient.json"
    visit.write_text(json.dumps({"visits": [{"diagnoses": [CANARY], CANARY: 1}]}))
    assert cli.run(["--log-file", str(path), "recsys", "recommend", "--visit", str(visit)]) != 0
    assert CANARY in capsys.readouterr().err, "the person who asks must see what is wrong"
    text = path.read_text()
    assert CANARY not in text and "ERROR" in text and "exit_code=" in text


def test_the_service_logs_routes_and_no_questions(client, tmp_path):  # noqa: F811
    path = tmp_path / "a.log"
    open_log(path, LogFormat.json, "serve", "serve", "1.0")
    try:
        client.get("/api/search", params={"q": CANARY})
        client.get(f"/{CANARY}")
        client.post("/api/recommend", json={"patients": [{"visits": [{"diagnoses": [CANARY]}]}]})
        client.post("/api/recommend", json={"patients": [{"visits": CANARY}]})
        output.say(CANARY)
    finally:
        log.close()
    told = [(line["route"], line["status"]) for line in lines(path) if line["message"] == "request"]
    assert [route for route, _ in told] == ["/api/search", "other", "/api/recommend", "/api/recommend"]
    assert told[1][1] == 404 and told[3][1] == 400 and CANARY not in path.read_text()


def test_secrets_and_messages_of_unexpected_errors_stay_out(opened):
    output.say("trying postgresql://me:hunter2@db.example.org/x")
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    logging.getLogger("somebody.else").error(CANARY)
    log.close()
    text = opened.read_text()
    assert "hunter2" not in text and CANARY not in text
    found = next(line for line in lines(opened) if line["logger"] == "uvicorn.error")
    assert found["error"] == "ValueError" and found["at"].startswith("test_log.py:")


def test_text_is_one_line_each_without_control_characters(tmp_path):
    path = tmp_path / "a.log"
    open_log(path, LogFormat.text, "kb", "kb ingest", "1.0")
    log.in_run("4f1c")
    output.say("two\nlines \x1b[31mred")
    log.close(0)
    begun, said, ended = path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO cli.said pid=\d+ command=\"kb ingest\" run=4f1c \| two\\nlines \\x1b\[31mred", said)
    assert "run=-" in begun and "exit_code=0" in ended


def test_a_log_that_is_moved_away_is_begun_again(opened):
    output.say("before")
    opened.rename(opened.with_suffix(".1"))
    output.say("after")
    assert [line["message"] for line in lines(opened)] == ["after"]
    assert [line["message"] for line in lines(opened.with_suffix(".1"))] == ["begun", "before"]
    assert stat.S_IMODE(opened.stat().st_mode) == 0o600


def test_several_writers_keep_their_lines_whole(opened):
    writers = [threading.Thread(target=lambda n=n: [output.say(f"{n} " + "x" * 2000) for _ in range(50)]) for n in range(4)]
    program = ("import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; from kb import log, output;"
               "log.open_log(Path(sys.argv[1]), log.LogFormat.json, 'kb', 'kb ingest', '1.0'); output.set_quiet(True);"
               "[output.say('p ' + 'x' * 2000) for _ in range(50)]; log.close(0)")
    output.set_quiet(True)
    other = subprocess.Popen([sys.executable, "-c", program, str(opened), str(ROOT)])
    try:
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert other.wait(60) == 0
    finally:
        output.set_quiet(False)
    assert len([line for line in lines(opened) if line["message"].endswith("x" * 2000)]) == 250


def test_an_existing_file_becomes_its_owner_s_alone_and_no_link_is_followed(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("old\n")
    path.chmod(0o644)
    open_log(path, LogFormat.text, "kb", "kb ingest", "1.0")
    log.close(0)
    assert path.read_text().startswith("old\n") and stat.S_IMODE(path.stat().st_mode) == 0o600
    link = tmp_path / "link.log"
    link.symlink_to(path)
    with pytest.raises(ConfigError):
        open_log(link, LogFormat.text, "kb", "kb ingest", "1.0")


def test_what_cannot_be_logged_is_told_once_and_holds_nothing_up(opened, monkeypatch, capsys):
    handler = log._Open.handler
    monkeypatch.setattr(handler, "_open", lambda: os.fdopen(os.open("/dev/full", os.O_WRONLY), "w"))
    opened.unlink()
    output.say("one")
    output.say("two")
    log.close(0)
    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1 and "two" in said


@pytest.mark.parametrize(("words", "told"), [(["--log-format", "xml"], "neither text nor json"), (["--log-file", "/nowhere/at/all.log"], "No such file")])
def test_what_is_wrong_with_the_options_is_said(words, told, tmp_path, capsys, monkeypatch):
    given = words if "--log-file" in words else ["--log-file", str(tmp_path / "a.log"), *words]
    assert cli.run([*given, "kb", "sources", "--known"]) in (1, 2)
    assert told in capsys.readouterr().err


def test_progress_is_logged_now_and_then(opened, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    with output.progress() as bar:
        task = bar.add_task("corpus", total=100, note="")
        for _ in range(100):
            now[0] += 1
            bar.update(task, advance=1, note="here")
    found = [(line["task"], line["done"], line["total"], line["note"]) for line in lines(opened) if line["message"] == "progress"]
    assert len(found) == 9 and found[0] == ("corpus", 11, 100, "here")


def test_the_environment_names_a_log_too(tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    monkeypatch.setenv("MKMED_LOG_FILE", str(path))
    monkeypatch.setenv("MKMED_LOG_FORMAT", "json")
    assert cli.run(["kb", "sources", "--known"]) == 0
    assert [line["message"] for line in lines(path)] == ["begun", "ended"]
