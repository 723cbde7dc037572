"""``mkmed doctor`` and ``mkmed status``."""

from __future__ import annotations

import typer

from kb.options import FormatOption
from kb.output import Format, as_json, emit, write
from kb.settings import load_settings

doctor_app = typer.Typer(add_completion=False)
status_app = typer.Typer(add_completion=False)


@doctor_app.command(epilog="""\b
Examples:
  mkmed doctor
  mkmed doctor --format json
""")
def doctor(form: FormatOption = Format.table) -> None:
    """Check everything that mkmed stands on, and say how to mend what is wrong.

    ✓ is fine, ! works but could be better, ✗ is broken. Exit code 1 when anything is ✗.
    """
    from dataclasses import asdict

    from kb.doctor import Health, examine

    checks = examine(load_settings())
    emit([asdict(check) for check in checks], form,
         columns=("verdict", "name", "found", "remedy"))
    if any(check.verdict is Health.bad for check in checks):
        raise typer.Exit(1)


@status_app.command(epilog="""\b
Examples:
  mkmed status
  mkmed status --format json
""")
def status(form: FormatOption = Format.table) -> None:
    """Show what there is: drugs, buckets, sources and runs, on one screen."""
    from dataclasses import asdict

    from kb.query.status import take_stock

    stock = take_stock(load_settings())
    if form is Format.json:
        write(as_json(asdict(stock)))
        return
    emit([{"what": name, "value": value} for name, value in stock.figures.items()], form)
    if form is Format.csv:
        return
    for title, rows in (("Largest buckets", stock.buckets), ("Sources", stock.sources), ("Latest runs", stock.runs)):
        if rows:
            emit(rows, form, title=title)
