"""Every command in README and docs exists with the options it uses, and those that can run on a small machine are run."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

import cli

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "docs"), str(Path(__file__).parent / "kb")]

import generate_cli  # noqa: E402
import generate_figures  # noqa: E402
from facts import Hand, begin, small_batch  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def lines_of(page):
    """The shell lines of a page: those of ```sh blocks, and indented ones."""
    text = page.read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from block.splitlines()
    yield from (line.strip() for line in re.findall(r"^    (?:mkmed|torchrun) .*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE))


def calls(line):
    """The mkmed calls within a shell line, as lists of words."""
    line = re.sub(r"\$\w+", "popularity", line)
    for inner in re.findall(r"\$\((mkmed [^()|]*)", line):
        yield shlex.split(inner)[1:]
    words = shlex.split(line.replace(";", " ; "), comments=True)
    while words:
        part = words[: words.index(";")] if ";" in words else words
        words = words[len(part) + 1 :]
        for start in ("mkmed", "embed"):  # python -m cli embed … has no mkmed in front
            if start in part and (start == "mkmed" or "cli" in part):
                rest = part[part.index(start) + (start == "mkmed") :]
                yield [w for w in rest if w not in ("done", "do")][: next((i for i, w in enumerate(rest) if w in (">", "|")), None)]
                break


COMMANDS = [(page.name, call) for page in PAGES for line in lines_of(page) for call in calls(line)]


def parse(words):
    """Parse without running; raises what the program would raise on a wrong option."""
    command = typer.main.get_command(cli.app)
    context = command.make_context("mkmed", list(words), resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else value)
def test_every_command_has_the_options_that_the_page_uses(page, words):
    if words[:1] == ["--version"]:
        return
    parse(words)


def test_there_are_commands_and_a_wrong_one_is_noticed():
    assert len(COMMANDS) > 90
    with pytest.raises(Exception, match="nosuch"):
        parse(["kb", "coverage", "--nosuch"])


def test_the_page_of_commands_is_fresh():
    assert (ROOT / "docs" / "cli.md").read_text() == generate_cli.page(), "python docs/generate_cli.py"


def test_the_figures_are_those_of_the_last_benchmarks():
    text = (ROOT / "README.md").read_text()
    assert generate_figures.filled(text) == text, "python docs/generate_figures.py"
    for _, _, command in generate_figures.figures():
        assert (ROOT / "benchmarks" / command).is_file()


def test_every_command_has_help_and_an_example():
    for path, command in generate_cli.commands():
        assert command.help, path
        found = generate_cli.examples(command)
        assert any(" ".join(path) in example for example in found), path


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for target in re.findall(r"`((?:docs|tests|benchmarks|demo|kb|embed|recsys)/[\w./]+\.\w+)`", page.read_text()):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


@pytest.fixture(scope="module")
def small(database, tmp_path_factory):
    """A knowledge base with a handful of drugs and a published run, as the program's own."""
    from embed import store
    from kb.db.address import bare
    from kb.query import drugs
    from kb.runs import start_run
    from kb.write import write_batch

    with database.begin() as connection:
        write_batch(connection, begin(connection), Hand.name, small_batch())
        run, ids = start_run(connection, "pretrain"), drugs(connection).ids
    vectors = np.random.default_rng(0).normal(size=(len(ids), 64)).astype(np.float32)
    store.write_run(database, run, {"fused": (ids, vectors), "text": (ids, vectors)}, np.ones((len(ids), 6), bool))
    store.publish(database, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MKMED_DATABASE_URL", bare(database.url))
        patch.setenv("MKMED_HOME", str(tmp_path_factory.mktemp("home")))
        yield database


HERE = ("kb coverage", "kb search", "kb show", "kb sources", "kb jobs", "kb verify", "kb merges", "kb export", "db url", "db upgrade",
        "db roles --print", "doctor", "status", "embed runs", "embed neighbours metformin", "recsys cohorts", "recsys runs",
        "recsys recommenders", "--version", "report --out")


def runnable(words):
    text = " ".join(words)
    return (any(text.startswith(start) for start in HERE) and "--undo" not in text and "glarg" not in text
            and "statin" not in text)


@pytest.mark.parametrize("words", sorted({tuple(w) for _, w in COMMANDS if runnable(w)}), ids=" ".join)
def test_commands_run(small, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = cli.run(list(words))
    said = capsys.readouterr()
    assert code == 0 or (words[0] == "doctor" and "✗" in said.out), said.err
