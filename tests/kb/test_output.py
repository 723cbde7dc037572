"""What listings look like to the programs that read them."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import pty
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, make_url
from typer.testing import CliRunner

import cli
from kb import output
from kb.output import Format, as_json, complain, emit, for_people, say, set_quiet
from tests.test_architecture import sources

HOSTILE = {"escape": "\x1b[2Jgone", "clipboard": "\x1b]52;c;cm0gLXJm\x07", "c1": "\x9b31mred\x9d0;title\x9c",
           "bidi": "safe\u202etxt.exe\u2066", "back": "abc\rxyz\b\x7f", "marks": "a\u200bb\ufeffc\u2028d", "nul": "a\0b",
           "tags": "a\U000e0041b", "half": "a\ud83db"}
KEPT = "Zażółć 薬 دواء naïve α-β 😀 a\u200cb\tc\nd"
"""Letters of any script, the joiners of some, tab and newline."""


def unseen(text: str) -> list[str]:
    """The characters that no person should be shown as they are."""
    return [c for c in text if (ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000
            or c in "\u200b\u202e\u2066\u2028\ufeff\U000e0041"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_that_people_read_moves_their_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_quiet(False)
    say(text)
    complain(text, text)
    emit([{text: text, "list": [text], "nested": {"name": [text]}}], title=text)
    seen = "".join(capsys.readouterr())
    assert unseen(seen) == [] and "\\" in seen
    assert for_people(KEPT) == KEPT


@pytest.mark.parametrize("text", [*HOSTILE.values(), KEPT], ids=[*HOSTILE, "kept"])
def test_json_and_csv_give_back_what_was_there(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = as_json({"name": text})
    assert json.loads(shown) == {"name": text} and unseen(shown) == []
    emit([{"name": text}], Format.json)
    printed = capsys.readouterr().out
    assert json.loads(printed) == [{"name": text}] and unseen(printed) == []
    if text.isprintable() or text == HOSTILE["escape"]:
        emit([{"name": text}], Format.csv)
        assert next(csv.DictReader(io.StringIO(capsys.readouterr().out)))["name"] == text


def on_a_terminal(code: str, **more: str) -> str:
    """What a program writes when all its streams are a terminal."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs,
                             env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", **more})
    os.close(theirs)
    heard = b""
    try:
        while part := os.read(ours, 4096):
            heard += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert child.wait() == 0, heard
    return heard.decode()


def test_a_terminal_gets_no_escapes_in_any_format() -> None:
    heard = on_a_terminal("from kb.output import *\nfor form in Format: emit([{'a': '\\x1b]52;c;x\\x07'}], form, title='\\x1b[2J')\n"
                          "write('\\x9b2J')\nwith progress() as bar: bar.add_task('\\x1b]0;x', total=1, note='[b]\\x1bc')")
    assert "\x1b]" not in heard and "\x1b[2J" not in heard and "\x1bc" not in heard and "\x07" not in heard and "\x9b" not in heard
    assert heard.count("1b]52") == 3 and "[b]" in heard


@pytest.mark.parametrize("columns", ["x", "", "0", "-5", "²", "1e3", "99999999999", "٣"])
def test_any_width_that_the_environment_tells_is_borne(columns: str, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    emit([{"a": "b" * 200}])
    assert capsys.readouterr().out.count("b") == 200
    assert "bbb" in on_a_terminal("from kb.output import *\nemit([{'a': 'bbb'}])", COLUMNS=columns, LINES=columns)


def test_only_one_module_writes_to_the_streams() -> None:
    """``cli`` flushes and closes them; nothing else may touch them, so that nothing gets round the escapes."""
    for path in sources():
        if path.name in ("output.py", "cli.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert name not in ("print", "typer.echo", "typer.secho", "click.echo", "Console"), path
            assert not name.startswith(("sys.stdout", "sys.stderr", "rich.print")), path


@pytest.fixture
def hostile(fresh_database: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A knowledge base of drugs whose every name and text is hostile; gives the escape in it."""
    name = "Evil\x1b]52;c;x\x07 \u202edrug\x9b2J"
    table = tmp_path / "drugs.csv"
    table.write_text(f'Id,Name,Text,Other\na1,"{name}","{name} heals","{name} two"\na2,Harmless,,\n', encoding="utf-8")
    monkeypatch.setenv("MKMED_DATABASE_URL", make_url(fresh_database.url).render_as_string(hide_password=False))
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    done = run("kb", "ingest", "--source", "tabular", "--path", str(table), "--column", "key=Id", "--column", "name=Name",
               "--column", "text=Text", "--column", "synonym=Other")
    assert done.exit_code == 0, done.output
    return "\x1b]52"


def run(*words: str) -> object:
    return CliRunner().invoke(cli.app, list(words))


@pytest.mark.parametrize("words", [
    ("kb", "search", "Evil"), ("kb", "show", "user:a1"), ("kb", "sources"), ("kb", "jobs"), ("kb", "coverage"),
    ("kb", "merges"), ("status",), ("doctor",)], ids=" ".join)
def test_no_listing_of_a_hostile_knowledge_base_carries_escapes(hostile: str, words: tuple[str, ...]) -> None:
    told = run(*words)
    assert unseen(told.output) == [], words  # type: ignore[attr-defined]
    if words[1:2] in (("search",), ("show",)):
        assert "Evil" in told.output  # type: ignore[attr-defined]
        shown = run(*words, "--format", "json").output  # type: ignore[attr-defined]
        assert unseen(shown) == [] and hostile in json.dumps(json.loads(shown), ensure_ascii=False).encode().decode(
            "unicode_escape", "ignore")


@pytest.mark.parametrize("words", [
    ("kb", "show", "\x1b[2J"), ("kb", "ingest", "--source", "\x1b]0;x\x07"), ("recsys", "recommend", "--visit", "\x9b2J"),
    ("recsys", "runs", "--format", "\x1bc"), ("recsys", "train", "--cohort", "\u202ec"), ("\x1b[2J",)], ids=ascii)
def test_what_was_typed_wrong_is_told_without_escapes(hostile: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(words) != 0
    heard = "".join(capsys.readouterr())
    assert "error" in heard and unseen(heard) == []


def test_nested_values_are_json_in_csv(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"counts": {"drugs": 1, "none": None}, "codes": ["A10BA02"], "text": "=1+1"}
    emit([row], Format.csv)
    (read,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (json.loads(read["counts"]), json.loads(read["codes"])) == (row["counts"], row["codes"])
    assert read["text"] == "'=1+1"


def test_an_empty_listing_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], Format.csv, columns=("number", "drug"))
    emit([], Format.json)
    assert capsys.readouterr().out == "number,drug\n[]\n"


PIECES = ["a", "bb", "metformin", "hydrochloride", "x" * 30, "https://example.org/very/long/path", "0.5", "é", "—", "", "β-blocker",
          "  two  spaces "]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_tables_are_laid_out_as_rich_lays_them_out(data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join)
    count = data.draw(st.integers(1, 7))
    heads = [word[:25] or "h" for word in data.draw(st.lists(words, min_size=count, max_size=count))]
    rows = data.draw(st.lists(st.lists(words, min_size=count, max_size=count), max_size=4))
    right = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    title = data.draw(st.none() | words.filter(bool))
    least = sum(min(max(map(len, column)), output.LEAST_COLUMN) + 3 for column in zip(heads, *rows, strict=True))
    ours, theirs = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("COLUMNS", str(data.draw(st.sampled_from([40, 60, 80, 140, 200]))))
        with redirect_stdout(ours):
            assert output._quickly(heads, rows, right, least, title)
        with redirect_stdout(theirs):
            output._richly(heads, rows, right, least, title)
    assert ours.getvalue() == theirs.getvalue()


@pytest.mark.parametrize("text", ["薬", "tab\tand", "line\nfeed"])
def test_what_is_no_single_cell_a_letter_is_left_to_rich(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not output._quickly(["name"], [[text]], [False], 10, None)
    emit([{"name": text}])
    assert text.split()[0] in capsys.readouterr().out
