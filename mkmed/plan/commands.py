"""``mkmed plan``: print the steps of a size."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kb import output
from kb.options import FormatOption
from kb.output import Format

app = typer.Typer(add_completion=False, help="What a number of compounds and patients takes, from measured rates.")


@app.command(epilog="Example: mkmed plan --drugs 1e8 --patients 1e7 --cores 64")
def plan(
    drugs: Annotated[float, typer.Option(help="Compounds.")] = 1e6,
    patients: Annotated[float, typer.Option(help="Patients.")] = 0,
    cores: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Cores; this machine's by default.")] = None,
    rates: Annotated[Path | None, typer.Option(help="A file of rates; by default those that were measured.")] = None,
    form: FormatOption = Format.table,
) -> None:
    """What to run where, hours, memory, disk and what drives the cost, with how each number is known."""
    from kb.compute.pool import cores as own_cores
    from mkmed.plan.estimate import RATES, load_rates, planned_steps

    found = load_rates(rates or RATES)
    count = cores or own_cores()
    output.emit([asdict(row) for row in planned_steps(drugs, patients, count, found)], form)
    output.say(f"{count} cores like those of a {found['machine']}; measured: at that size, simulated: at a hundredth or"
               " more, reasoned: further, or never measured")
