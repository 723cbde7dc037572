"""``mkmed demo``: the whole path on the bundled open data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kb import output

app = typer.Typer(add_completion=False, help="Run the whole path on the bundled open data.")


@app.command(epilog="Example: mkmed demo   ·   mkmed demo --quick")
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="A smaller corpus and shorter trainings, under 90 s.")] = False,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep the demo's data for the next run and for "
                                                                "looking around, or only its report.")] = True,
) -> None:
    """Fill a knowledge base of its own, embed, evaluate, recommend and report; a second run skips what is done.

    Everything lies in <home>/demo, with an embedded server of its own: your own knowledge base is not touched.
    """
    from kb.settings import load_settings
    from mkmed.demo.clearing import clear
    from mkmed.demo.pipeline import demo_settings, run_demo
    from mkmed.demo.step import FULL, QUICK

    settings = demo_settings(load_settings())
    path = run_demo(settings, QUICK if quick else FULL)
    if not keep:
        clear(settings)
        output.say(f"removed {settings.home} but for its report")
    else:
        output.say("\nlook around:  " + "\n              ".join(_next_steps(settings.home)))
    output.write(str(path))


def _next_steps(home: Path) -> list[str]:
    """What to type to look around, in a shell that may not know the program's environment."""
    import shlex
    import shutil

    known = shutil.which("mkmed") is not None
    path = [] if known else [f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"']
    return [*path, f"export MKMED_HOME={shlex.quote(str(home))}",
            "mkmed status; mkmed embed neighbours aspirin; mkmed db psql"]
