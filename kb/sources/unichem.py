"""UniChem (EMBL-EBI): the identifiers that databases have for the structures of the drugs that are known here.

Reads ``structure.tsv.gz`` (UCI, standard InChI, InChIKey) and, by ``--also reference=FILE``, ``reference.tsv.gz`` (UCI,
source, compound, assignment) line by line. Structures of no known drug are counted and left out.

Source: https://ftp.ebi.ac.uk/pub/databases/chembl/UniChem/data/table_dumps/README.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import select

from kb.csvfile import open_csv
from kb.errors import SourceError, UsageError
from kb.inputs import require_regular
from kb.licences import CC0, Licence
from kb.schema.identity import drug
from kb.sources.contract import Document
from kb.sources.stream import Entry, Left, StreamSource, make_drug

if TYPE_CHECKING:
    from kb.ingest.engine import Job

SPACES = {"1": "chembl", "2": "drugbank", "7": "chebi", "9": "zinc", "14": "unii", "17": "pharmgkb",
          "18": "hmdb", "22": "pubchem.compound", "31": "bindingdb", "34": "drugcentral"}
"""UniChem's numbers of the databases whose identifiers are kept."""
STRUCTURE = ("UCI", "STANDARDINCHIKEY")
REFERENCE = ("UCI", "SRC_ID", "SRC_COMPOUND_ID", "ASSIGNMENT")


class UniChem(StreamSource):
    """Identifiers by InChIKey; a drug that has no structure gets none."""

    name = "unichem"
    title = "UniChem"
    url = "https://www.ebi.ac.uk/unichem/"
    licences: ClassVar[tuple[Licence, ...]] = (CC0,)
    options = frozenset({"path", "also", "refresh_days", "yes"})
    parser = "unichem/1"
    media_type = "text/tab-separated-values"

    def __init__(self) -> None:
        self._drugs: dict[str, str] = {}
        self._reference: Path | None = None

    def begin(self, job: Job) -> None:
        """The InChIKeys of the drugs that are known, and the second file."""
        reference = job.options.also.get("reference")
        if reference is None or len(job.options.also) > 1:
            raise UsageError("unichem reads two files",
                             hint="--path structure.tsv.gz --also reference=reference.tsv.gz")
        self._reference = require_regular(reference, "--also reference")
        query = select(drug.c.inchikey, drug.c.name).where(drug.c.inchikey.is_not(None))
        self._drugs = job.transact(lambda c: {row.inchikey: row.name for row in c.execute(query)})

    def scope(self) -> str:
        """How many structures are known: more may be the next time."""
        return f":{len(self._drugs)} known"

    def measured(self, path: Path) -> list[Path]:
        """Both files."""
        return [path] if self._reference is None else [path, self._reference]

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Left]:
        """Every known structure with the current identifiers of the databases that are kept."""
        assert self._reference is not None
        keys, unknown, malformed = {}, 0, 0
        for row in _rows(path, STRUCTURE):
            if row is None:
                malformed += 1
            elif row[1] in self._drugs:
                keys[row[0]] = row[1]
            else:
                unknown += 1
        codes: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for reference in _rows(self._reference, REFERENCE):
            if reference is not None and reference[0] in keys and reference[3] == "1" and reference[1] in SPACES:
                codes[reference[0]].append((SPACES[reference[1]], reference[2]))
        for uci, inchikey in sorted(keys.items(), key=lambda item: (len(item[0]), item[0])):
            found, faults = make_drug(f"inchikey:{inchikey}", self._drugs[inchikey], document, inchikey=inchikey,
                                      identifiers=codes[uci])
            yield Entry(found, faults=faults)
        if unknown:
            yield Left("of a structure that no drug here has", items=unknown)
        if malformed:
            yield Left("malformed", items=malformed)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[list[str] | None]:
    """The cells of the columns, row by row; None for a malformed row. Raises SourceError for a file that is cut off."""
    with open_csv(path, "\t") as table:
        missing = [name for name in columns if name not in table.header]
        if missing:
            raise UsageError(f"{path.name} has no column {missing[0]}", hint=f"it has: {', '.join(table.header)}")
        places = [table.header.index(name) for name in columns]
        for row in table.rows():
            if row.reason and table.is_cut():
                raise SourceError(f"{path.name} ends within line {row.line}", hint="download it again")
            yield None if row.reason else [row.cells[place] for place in places]
