"""Writes docs/cli.md from the commands themselves: ``python docs/generate_cli.py``; a test fails when it is stale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "cli.md"
HEAD = """# The commands

Made by `python docs/generate_cli.py`. Every command takes `--help`; before the command, `mkmed` takes `--quiet`
(errors only), `--debug` (tracebacks), `--log-file FILE` with `--log-format text|json`
([a log](operations.md#a-log)), `--version` and `--plugin FILE.py:NAME` ([extending](extending.md)). Listings take
`--format table|json|csv|latex`. Exit codes: 0 ok, 1 expected failure, 2 usage, 3 finished with failed items (run
again to retry), 74 disk full, 75 try again later, 130
interrupted.
"""


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words after ``mkmed``."""
    import typer

    import cli

    command = command or typer.main.get_command(cli.app)
    inner = list(cli.COMMANDS) if not path else sorted(getattr(command, "commands", {}))
    for name in inner:
        yield from commands(command.get_command(None, name) if not path else command.commands[name], (*path, name))
    if not inner:
        yield path, command


def describe(path: tuple[str, ...], command: Any) -> str:
    """One command as Markdown: what it does, its arguments and options, its examples."""
    help_text = "\n".join(line.strip() for line in (command.help or "").splitlines()).strip()
    lines = [f"## mkmed {' '.join(path)}", "", help_text, ""]
    rows = [row for parameter in command.params if (row := _row(parameter))]
    if rows:
        lines += ["| argument or option | meaning | default |", "|---|---|---|", *rows, ""]
    return "\n".join([*lines, "```sh", *examples(command), "```", ""])


def examples(command: Any) -> list[str]:
    """The examples of a command's help."""
    text = (command.epilog or "").replace("\b", "").replace("Examples:", "").replace("Example:", "")
    return [part.strip() for line in text.splitlines() for part in line.split(" · ") if part.strip()]


def _row(parameter: Any) -> str | None:
    if parameter.name == "help":
        return None
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in names) if names[0].startswith("-") else f"`{parameter.name.upper()}`"
    default = parameter.default
    empty = default is None or default is False or default == "" or callable(default) or "Sentinel" in repr(default)
    meaning = " ".join((getattr(parameter, "help", "") or "").split()).replace("|", "\\|")
    return f"| {shown} | {meaning} | {'' if empty else f'`{default}`'} |"


def page() -> str:
    """The whole page."""
    return HEAD + "\n" + "\n".join(describe(path, command) for path, command in commands()).rstrip() + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
