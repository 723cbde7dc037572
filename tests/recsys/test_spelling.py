"""Options as release 0.1.0 spelt them still do what they did, and say how they are spelt now; ``--format`` means one thing."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
import typer

import cli
from recsys.spelling import respell
from tests.handbook.pages import ROOT

EHR = ["--root", str(ROOT / "mkmed/demo/data/ehr_eicu_demo"), "--min-visits", "1", "--dry-run"]


@pytest.mark.parametrize(("old", "new"), [
    (["--format", "mimic3", "--output", "csv"], ["--ehr", "mimic3", "--format", "csv"]),
    (["--format=mimic3", "-o", "json"], ["--ehr", "mimic3", "--format", "json"]),
    (["--output=latex", "--format", "synthetic"], ["--format", "latex", "--ehr", "synthetic"])])
def test_old_spellings_are_read_as_todays(old: list[str], new: list[str]) -> None:
    spelt, said = respell(["--root", "x", *old])
    assert spelt == ["--root", "x", *new] and len(said) == 2
    assert all(" is spelt " in line for line in said)


@pytest.mark.parametrize("words", [["--ehr", "mimic3", "--format", "csv"], ["-f", "json", "--ehr", "meds"], ["--format"],
                                   ["--format", "xml"], ["--name", "format"]])
def test_todays_spellings_are_left_alone(words: list[str]) -> None:
    assert respell(words) == (words, [])


def test_both_spellings_print_the_same(capfd: pytest.CaptureFixture[str], database_environment: object) -> None:
    assert cli.run(["recsys", "prepare", "--ehr", "eicu", *EHR, "--format", "csv"]) == 0
    today = capfd.readouterr()
    assert cli.run(["recsys", "prepare", "--format", "eicu", *EHR, "--output", "csv"]) == 0
    before = capfd.readouterr()
    assert before.out == today.out and len(list(csv.DictReader(io.StringIO(today.out)))) > 5
    assert "--format eicu is spelt --ehr eicu now" in before.err and "--output csv is spelt --format csv now" in before.err
    assert " is spelt " not in today.err


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the program with its path."""
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))
    else:
        yield path, command


def test_an_option_means_one_thing_in_the_whole_program() -> None:
    """``--format`` is how an answer is printed, ``--as`` a file's format, ``--ehr`` an EHR format; none has a second help."""
    helps: dict[str, dict[str, list[str]]] = {}
    for path, command in commands(typer.main.get_command(cli.app)):
        for parameter in command.params:
            for name in parameter.opts:
                helps.setdefault(name, {}).setdefault(getattr(parameter, "help", None) or "", []).append(" ".join(path))
    assert list(helps["--format"]) == ["How to print."] and len(helps["--format"]["How to print."]) > 40
    assert helps["-f"] == helps["--format"]
    assert "--output" not in helps and {path for paths in helps["--ehr"].values() for path in paths} == {
        "recsys prepare", "recsys reproduce", "recsys unmapped"}
