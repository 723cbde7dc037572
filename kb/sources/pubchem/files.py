"""PubChem's bulk files as streams of raw parts: SD records, and the lines of the ``CID-…`` tables of Extras.

Formats: ftp.ncbi.nlm.nih.gov/pubchem/Compound/README-Compound-SDF and Compound/Extras/README-Extras. Nothing here holds
more than one line in memory, and a line that is longer than ``LONGEST`` is passed over and told as None.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from kb import inputs
from kb.errors import UsageError
from kb.normalise import clean

LONGEST = 1 << 20
"""Bytes of one line."""
TABLES = {
    "inchikey": re.compile(r"CID-InChI-Key(\.gz)?"),
    "smiles": re.compile(r"CID-SMILES(\.gz)?"),
    "title": re.compile(r"CID-Title(\.gz)?"),
    "synonym": re.compile(r"CID-Synonym-(un)?filtered(\.gz)?"),
    "parent": re.compile(r"CID-Parent(\.gz)?"),
}
_SDF = re.compile(r".*\.sdf(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BulkFiles:
    """What a folder holds: 2D records, 3D records, and tables by role."""

    flat: tuple[Path, ...]
    spatial: tuple[Path, ...]
    tables: dict[str, Path]


def find_bulk_files(path: Path) -> BulkFiles:
    """The bulk files at ``path``, a folder or one file, told apart by name and by their first record."""
    found = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    tables = {role: p for p in found for role, form in TABLES.items() if form.fullmatch(p.name)}
    sdf = [p for p in found if _SDF.fullmatch(p.name)]
    spatial = tuple(p for p in sdf if _is_spatial(p))
    if not sdf and not tables:
        raise UsageError(f"{path} holds no bulk file of PubChem", hint="expected *.sdf.gz or CID-….gz")
    return BulkFiles(tuple(p for p in sdf if p not in spatial), spatial, tables)


def _is_spatial(path: Path) -> bool:
    with open_bulk(path) as stream:
        head = stream.read(4096).split(b"\n", 2)
    return len(head) > 1 and head[1].rstrip().endswith(b"3D")


def open_bulk(path: Path) -> AbstractContextManager[io.BufferedReader]:
    """The unpacked bytes of a file, capped, as a context."""
    return inputs.open_plain(path)


def bulk_lines(stream: io.BufferedReader) -> Iterator[bytes | None]:
    """The lines of a table without their end; None for one that is longer than ``LONGEST``."""
    return (line if line is None else line.rstrip(b"\r\n") for line in inputs.read_lines(stream, LONGEST))


class SortedTable:
    """A table sorted by CID, read once along with the compounds, which come in the same order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.skipped = 0
        self._open()

    def _open(self) -> None:
        self._files = ExitStack()
        self._rows = self._read(self._files.enter_context(open_bulk(self._path)))
        self._next = next(self._rows, None)
        self._at = 0

    def _read(self, stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
        for line in bulk_lines(stream):
            cid, tab, value = (line or b"").partition(b"\t")
            if tab and cid.isdigit():
                yield int(cid), clean(value.decode("utf-8", "replace"))
            else:
                self.skipped += 1

    def of(self, cids: Sequence[int]) -> dict[int, list[str]]:
        """The values of each CID that the table has; starts again from the top when the CIDs go back."""
        wanted = sorted(set(cids))
        if wanted and wanted[0] < self._at:
            self.close()
            self._open()
        found: dict[int, list[str]] = {}
        for cid in wanted:
            while self._next is not None and self._next[0] < cid:
                self._next = next(self._rows, None)
            while self._next is not None and self._next[0] == cid:
                found.setdefault(cid, []).append(self._next[1])
                self._next = next(self._rows, None)
        self._at = wanted[-1] + 1 if wanted else self._at
        return found

    def close(self) -> None:
        """Close the file."""
        self._files.close()
