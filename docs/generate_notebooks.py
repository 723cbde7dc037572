"""Runs the notebooks of ``docs/notebooks`` from their first cell to their last, and writes what they print into them.

``python docs/generate_notebooks.py --home FOLDER`` takes a home in which the demo has been run (``mkmed demo``); a
notebook whose cell fails is left as it was. Outputs are kept small and say nothing of the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent / "notebooks"
SECONDS = 300
"""The time that a cell may take."""
KINDS = ("text/plain", "text/html")
"""What is kept of a cell's answer."""


def execute(path: Path, environment: Mapping[str, str]) -> Any:
    """The notebook with the outputs of this run; raises nbclient's CellExecutionError at the first cell that fails."""
    book = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(book, timeout=SECONDS, kernel_name="python3", resources=place)
    client.execute(env=dict(environment))
    for cell in book.cells:
        cell.metadata = {}
        if "outputs" in cell:  # what a library complains of on stderr is of this machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            if "data" in output:
                output["data"] = {kind: output["data"][kind] for kind in KINDS if kind in output["data"]}
                output["metadata"] = {}
    book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                     "language_info": {"name": "python"}}
    return book


def main() -> None:
    """Run every notebook in the home that is given, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where mkmed demo was run: its folder demo")
    home = parser.parse_args().home.resolve()
    environment = {**os.environ, "MKMED_HOME": str(home), "PYTHONPATH": str(NOTEBOOKS.parents[1])}
    environment.pop("MKMED_DATABASE_URL", None)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        book = execute(path, environment)
        if str(home) in nbformat.writes(book):
            sys.exit(f"{path.name} shows where its data lie")
        nbformat.write(book, path)


if __name__ == "__main__":
    main()
