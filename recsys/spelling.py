"""Options as release 0.1.0 spelt them: still taken by these commands, shown by no help, and answered with today's.

``--format`` named the EHR format and ``--output`` said how to print; now ``--ehr`` names the EHR format, and
``--format`` says how to print, as everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.core import TyperCommand

from kb.output import Format, say

if TYPE_CHECKING:
    import typer

TODAY = {"--output": "--format", "-o": "--format"}


class OldSpelling(TyperCommand):
    """A command that was called with ``--format EHR`` and ``--output FORMAT``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the arguments as they are spelt today."""
        spelt, said = respell(args)
        if not ctx.resilient_parsing:
            for line in said:
                say(line)
        return super().parse_args(ctx, spelt)


def respell(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments in today's spelling, and what to say of those that had another."""
    from recsys.formats import FORMATS

    given, spelt, said = iter(arguments), [], []  # type: ignore[var-annotated]
    for argument in given:
        name, equals, value = argument.partition("=") if argument.startswith("--") else (argument, "", "")
        if name not in (*TODAY, "--format"):
            spelt.append(argument)
            continue
        if not equals:
            value = next(given, "")
        today = TODAY.get(name, name)
        if name == "--format" and value not in set(Format) and value in FORMATS:
            today = "--ehr"
        if today != name:
            said.append(f"{name} {value} is spelt {today} {value} now; the old spelling will go")
        spelt += [today, value] if value or equals else [today]
    return spelt, said
