"""Options that several command groups take, so that each has one spelling and one meaning in the whole program."""

from __future__ import annotations

from typing import Annotated

import typer

from kb.output import Format

FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print.")]
"""How an answer is printed, everywhere; an EHR format is ``--ehr``, a file's format ``--as``."""
