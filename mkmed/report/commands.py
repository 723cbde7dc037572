"""``mkmed report``: write the page and say where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kb import output

app = typer.Typer(add_completion=False, help="Write the results as one self-contained HTML page.")


@app.command(epilog="Example: mkmed report --out report.html   ·   mkmed report --visit patient.json")
def report(
    out: Annotated[Path | None, typer.Option(help="The file; <home>/report.html by default.")] = None,
    visit: Annotated[Path | None, typer.Option(help="A patient, as for mkmed recsys recommend: recommend and explain "
                                                    "with the latest run, and show it on this page, which then is "
                                                    "readable by you alone; nothing else is kept of it.")] = None,
) -> None:
    """Write one HTML page with everything found so far; parts not made yet name the command that makes them."""
    from dataclasses import replace

    from kb.db.engine import open_engine
    from kb.settings import load_settings
    from mkmed.report.collect import collect, forget_kept
    from mkmed.report.page import write

    settings = load_settings()
    forget_kept(settings)
    shown = None
    if visit:
        from mkmed.report.explained import explain_patient

        shown = explain_patient(settings, visit)
    findings = replace(collect(open_engine(settings), settings), recommendation=shown)
    path = write(findings, out or settings.home / "report.html")
    output.write(str(path.resolve()))
