"""CPU seconds of commands at the prompt, cold, against a running database: the best of thirty runs of each.

Needs a filled home (MKMED_HOME) with a published embedding run and a trained recommender: ``mkmed demo`` makes one.
Beside them stands a process that only imports Typer, SQLAlchemy and psycopg2 (the floor), taken apart at its end and
not. Rounds alternate, so that all see the same machine.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from record import report

sys.path.insert(0, str(Path(__file__).parents[1]))
from mkmed.demo.paths import patient_path

ROUNDS = 30
LIBRARIES = "import typer, typer._adapters, sqlalchemy, psycopg2, sqlalchemy.dialects.postgresql.psycopg2"
COMMANDS = {
    "embed neighbours metformin": 0.5, "kb show metformin": 0.5, "status": 0.5,
    f"recsys recommend --visit {patient_path()}": 0.8, "embed query --text insomnia": 2.0,
}
"""Each with its mark in CPU seconds."""


def seconds(words: list[str]) -> float:
    """CPU seconds, user and system, of one run with compiled modules at hand."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, *words], check=True, env=environment, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run every command in turn, round by round."""
    runs = {"Python alone": ["-c", "pass"], "the libraries": ["-c", LIBRARIES],
            "the libraries, not taken apart": ["-c", f"{LIBRARIES}; import os; os._exit(0)"],
            **{command.partition(" /")[0]: ["-m", "mkmed", *command.split()] for command in COMMANDS}}
    marks = {command.partition(" /")[0]: mark for command, mark in COMMANDS.items()}
    for words in runs.values():
        seconds(words)  # compiles, and starts the database
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, words in runs.items():
            taken[name].append(seconds(words))
    report("prompt", [{"process": name.replace("--visit", "--visit …"),
                       "CPU s": round(min(all_), 2), "mark": marks.get(name)} for name, all_ in
                      taken.items()], load=[round(one, 1) for one in os.getloadavg()])


if __name__ == "__main__":
    main()
