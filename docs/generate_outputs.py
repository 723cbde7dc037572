"""Writes what the commands and queries of README and docs/tasks.md print, and the pictures, from a demo of its own.

``python docs/generate_outputs.py`` runs ``mkmed demo`` in an empty home (minutes) and then every command and query of
these pages that has its output below it. ``--home FOLDER`` takes a home in which the demo has been run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", Path(__file__).parent / "tasks.md")
PICTURES = Path(__file__).parent / "pictures"
SHOWN = re.compile(r"```(sh|sql)\n([^`]*?)```\n```text\n(.*?)```", re.DOTALL)
"""A command or a query, and directly below it what it prints."""
COLUMNS = "105"


def filled(page: str, answer: Callable[[str, str], str]) -> str:
    """The page with every output as ``answer(language, what stands above it)`` gives it now."""
    return SHOWN.sub(lambda m: f"```{m[1]}\n{m[2]}```\n```text\n{tidy(answer(m[1], m[2]))}```", page)


def tidy(text: str) -> str:
    """The text without blanks at the ends of lines, and without empty lines around it."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n") + "\n"


def answer(home: Path) -> Callable[[str, str], str]:
    """What a command or a query prints in this home."""

    def run(language: str, text: str) -> str:
        return shell(text if language == "sh" else psql(text), home)

    return run


def psql(query: str) -> str:
    """The command that answers a query."""
    return f"mkmed db psql -c {shlex.quote(query.strip())}"


def shell(script: str, home: Path) -> str:
    """What a script prints; its talk goes where this program's goes."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "MKMED_HOME": str(home), "COLUMNS": COLUMNS, "PATH": path}
    environment.pop("MKMED_DATABASE_URL", None)
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, env=environment, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def draw(home: Path) -> None:
    """Draw the pictures: two with the commands that their captions name, and the ablation from its results."""
    from embed.evaluation.ablation import draw_ablation

    shell("mkmed kb coverage --plot docs/pictures/buckets.svg", home)
    shell("mkmed embed map --coded-only --out docs/pictures/map.svg", home)
    results = json.loads((ROOT / "benchmarks" / "results" / "ablation.json").read_text(encoding="utf-8"))
    if all("column" in row for row in results["rows"]):  # those of release 0.1.0 keep the picture that was drawn then
        draw_ablation(results, PICTURES / "ablation.svg")


def main() -> None:
    """Run the demo where none was given, and write README and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="the MKMED_HOME that mkmed demo was given, above its folder demo")
    given = parser.parse_args().home
    with tempfile.TemporaryDirectory(prefix="mkmed-outputs-", ignore_cleanup_errors=True) as fresh:
        home = given or Path(fresh)
        home.chmod(0o711)
        shell("mkmed demo", home)
        for page in PAGES:
            page.write_text(filled(page.read_text(encoding="utf-8"), answer(home / "demo")), encoding="utf-8")
        draw(home / "demo")
        shell("mkmed db stop --force || true", home / "demo")


if __name__ == "__main__":
    main()
