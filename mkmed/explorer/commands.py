"""``mkmed explorer``: the explorer as one file for offline use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kb import output

app = typer.Typer(add_completion=False, help="Write the explorer as one file that needs no service.")


@app.command(epilog="Example: mkmed explorer --out explorer.html   ·   mkmed explorer --open-only --out open.html")
def explorer(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("explorer.html"),
    open_only: Annotated[bool, typer.Option(help="Only what is under an open licence.")] = False,
) -> None:
    """Write the explorer with everything that it shows into one file; opened in a browser it asks for nothing.

    Search, cards, neighbours, map, buckets, runs and curves are in it. The patient to play with needs a recommender,
    and that learned from patients: only `mkmed serve` shows it.
    """
    from kb.db.engine import open_engine
    from kb.db.reading import open_reading
    from kb.settings import load_settings
    from mkmed.explorer.offline import write
    from mkmed.serve.answers import Answers

    settings = load_settings()
    open_engine(settings)
    answers = Answers(open_reading(settings, open_only=open_only, seconds=600.0), settings)
    with output.progress() as bar:
        task = bar.add_task("explorer", total=None, note="")
        path = write(answers, out, lambda words: bar.update(task, note=words))
    output.write(str(path.resolve()))
