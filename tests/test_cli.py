"""The program as a whole: it answers at once, its exit codes mean something, and it never says a secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
import typer

import cli
from kb.errors import Busy, DiskFull, Incomplete, MkmedError, NotFound, Transient


def mkmed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished program, run as a user runs it."""
    return subprocess.run([sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, timeout=120,
                          env=os.environ | environment, cwd=Path(cli.__file__).parent)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """A function that makes ``mkmed fail`` raise the given error."""
    import types

    def install(error: BaseException) -> None:
        application = typer.Typer()

        @application.command()
        def fail() -> None:
            raise error

        module = types.ModuleType("failing_command")
        module.app = application
        monkeypatch.setitem(sys.modules, "failing_command", module)
        monkeypatch.setattr(cli, "COMMANDS", {"fail": ("failing_command:app", "Fail.")})

    return install


def test_help_answers_in_less_than_a_second() -> None:
    mkmed("--help")  # compiles what was never compiled
    best = min(_seconds("--help") for _ in range(3))
    assert best < 1.0, f"{best:.2f} s"


def _seconds(*arguments: str) -> float:
    start = time.perf_counter()
    assert mkmed(*arguments).returncode == 0
    return time.perf_counter() - start


def test_help_lists_every_command_and_imports_none() -> None:
    program = ("import sys, cli\ntry:\n cli.run(['--help'])\nfinally:\n"
               " print([m for m in sys.modules if m in ('torch','sqlalchemy','pandas','kb.db.engine','numpy')])")
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                            cwd=Path(cli.__file__).parent)
    assert answer.stdout.rstrip().endswith("[]")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in answer.stdout


@pytest.mark.parametrize(("error", "code"), [
    (NotFound("no drug 'x'", hint="mkmed kb search x"), 1), (MkmedError("m"), 1), (Incomplete("2 failed"), 3),
    (Busy("held"), 75), (Transient("t"), 75), (DiskFull("full"), 74), (OSError(28, "No space left on device"), 74),
    (PermissionError(13, "Permission denied", "/x"), 1), (ValueError("odd"), 1), (KeyboardInterrupt(), 130), (typer.Exit(5), 5), (typer.BadParameter("bad"), 2),
])
def test_exit_code_says_what_kind_of_failure(failing, capsys, error: BaseException, code: int) -> None:
    failing(error)
    assert cli.run(["fail"]) == code
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    if not isinstance(error, typer.Exit):
        assert said.err.startswith("error: ")


def test_expected_failure_has_its_hint(failing, capsys) -> None:
    failing(NotFound("no drug 'x'", hint="mkmed kb search x"))
    cli.run(["fail"])
    assert capsys.readouterr().err == "error: no drug 'x'\nhint: mkmed kb search x\n"


def test_unexpected_failure_is_one_line_and_a_traceback_with_debug(failing, capsys) -> None:
    failing(RuntimeError("first\nsecond"))
    assert cli.run(["fail"]) == 1
    said = capsys.readouterr().err
    assert said == "error: unexpected RuntimeError: first\nhint: run again with --debug for the traceback\n"
    assert cli.run(["--debug", "fail"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_of_a_group_only_the_command_that_is_named_is_built() -> None:
    group = typer.main.get_command(cli.app)
    context = group.make_context("mkmed", ["kb", "show"], resilient_parsing=True)
    _, named, rest = group.resolve_command(context, ["kb", "show", "aspirin"])
    assert set(named.commands) == {"show"} and rest == ["show", "aspirin"]
    for following in ([], ["--help"], ["shwo"]):
        _, whole, _ = group.resolve_command(context, ["kb", *following])
        assert {"show", "ingest", "diff"} <= set(whole.commands), following


def test_unknown_command_and_option_are_usage_errors() -> None:
    for arguments in (("nonsense",), ("--nonsense",), ("db", "nonsense")):
        answer = mkmed(*arguments)
        assert answer.returncode == 2
        assert answer.stderr.startswith("error: ") and "--help" in answer.stderr and answer.stdout == ""


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_shell_without_utf8_gets_utf8_data(environment) -> None:
    answer = subprocess.run([sys.executable, "-m", "cli", "kb", "sources", "--known"], capture_output=True, timeout=120,
                            env=os.environ | environment, cwd=Path(cli.__file__).parent)
    assert answer.returncode == 0, answer.stderr
    assert "─" in answer.stdout.decode("utf-8")


def test_a_closed_stdout_is_no_failure() -> None:
    answer = subprocess.run(["sh", "-c", f"{sys.executable} -m cli kb sources --known >&-"], capture_output=True, timeout=120,
                            cwd=Path(cli.__file__).parent, text=True)
    assert answer.returncode == 0 and answer.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_data_that_find_no_space_say_so() -> None:
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run([sys.executable, "-m", "cli", "kb", "sources", "--known"], stdout=full, stderr=subprocess.PIPE,
                                text=True, timeout=120, cwd=Path(cli.__file__).parent)
    assert answer.returncode == 74 and "no space left" in answer.stderr and "Traceback" not in answer.stderr


def test_a_narrow_terminal_keeps_columns_readable(monkeypatch, capsys) -> None:
    from kb.output import emit

    monkeypatch.setenv("COLUMNS", "20")
    emit([{"modality": "structure", "drugs": 40, "share": 0.775, "source": "rdkit", "state": "present"}])
    said = capsys.readouterr().out
    assert all(word in said for word in ("modality", "drugs", "share", "source", "state", "rdkit", "present"))


def test_version_is_data() -> None:
    answer = mkmed("--version")
    assert answer.returncode == 0 and answer.stdout.startswith("mkmed ") and answer.stderr == ""


def test_reader_that_leaves_is_no_traceback() -> None:
    code = """
import sys, types, typer, cli
from kb.output import write
module = types.ModuleType("loud")
module.app = typer.Typer()
@module.app.command()
def loud():
    for _ in range(100000):
        write("x" * 100)
sys.modules["loud"] = module
cli.COMMANDS = {"loud": ("loud:app", "")}
sys.exit(cli.run(["loud"]))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               cwd=Path(cli.__file__).parent)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) != 0 and said == b""


@pytest.mark.parametrize(("number", "told"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "stopped by SIGTERM"),
                                              (signal.SIGHUP, "stopped by SIGHUP")])
def test_a_signal_while_the_program_loads_is_answered_with_a_word(number: signal.Signals, told: str) -> None:
    """A finder stops the first import of the command line, as a slow disk would."""
    code = """
        import sys, time
        class Slow:
            def find_spec(self, name, path=None, target=None):
                if name == "cli":
                    print("loading", flush=True)
                    time.sleep(30)
        sys.meta_path.insert(0, Slow())
        from mkmed.__main__ import main
        main()
    """
    with subprocess.Popen([sys.executable, "-c", dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "loading\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (128 + number, f"error: {told}; nothing was begun\n")


MATCHING = """
    from kb import interrupts
    interrupts.while_loading()
    from rdkit import Chem
    import time
    molecule, ring = Chem.MolFromSmiles("c1ccccc1" * 30), Chem.MolFromSmarts("c1ccccc1")
    interrupts.while_running()
    print("matching", flush=True)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        molecule.GetSubstructMatches(ring)
"""


def test_ctrl_c_is_heard_while_rdkit_matches() -> None:
    """RDKit takes SIGINT over in every substructure search and drops it; nearly all of the time is spent in one."""
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", dedent(MATCHING)], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "matching\n"
            told = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(25) in (130, -signal.SIGINT) and time.monotonic() - told < 10
