"""Any table of the user's: CSV, TSV or SDF with a declared column map.

``--column role=column`` says what the columns are. Roles: ``key`` (the user's own id), ``name``, ``synonym`` (several
with ``|``), ``smiles``, ``inchikey``, ``text``, ``atc``, ``identifier.<namespace>``, ``property.<name>``. A row needs a
structure, an identifier, a key or a name. In an SDF the connection table is the structure, and the conformer where it
has three dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import Connection

from kb import output
from kb.errors import UsageError
from kb.identity.identifiers import NAMESPACES
from kb.ingest.processes import Crew, Failure
from kb.ingest.records import Batch
from kb.licences import USER, Licence
from kb.modalities import Modality
from kb.properties import PROPERTIES
from kb.sources.contract import Part, Plan, Source
from kb.sources.tables.read import MOLBLOCK, Problem, Table, file_document, write_problems
from kb.sources.tables.rows import Row, add_row

if TYPE_CHECKING:
    from kb.ingest.engine import Job

PARSER = "tabular/1"
CHUNK = 1000
TOLD = 20
"""Of what is wrong in a chunk, so many are told as they come; all of it is stored."""
PLAIN = ("key", "name", "synonym", "smiles", "inchikey", "text", "atc")


class Tabular(Source):
    """Reads one file; what is wrong in it is rejected by row number, and the rest is taken."""

    name = "tabular"
    title = "the user's own table"
    url = "file"
    origin = "user"
    licences: ClassVar[tuple[Licence, ...]] = (USER,)
    modalities = (Modality.text, Modality.property, Modality.structure)
    options = frozenset({"path", "columns", "limit", "workers", "refresh_days"})

    def plan(self, job: Job) -> Plan:
        """The rows of the file."""
        table = Table(self.path(job))
        check_roles(job.options.columns, table)
        rows = sum(1 for _ in table.rows()) + len(table.problems)
        return Plan(rows, seconds=rows / 500, bytes=table.path.stat().st_size)

    def read(self, job: Job) -> Iterator[Part]:
        """Read, standardise in child processes, and hand over ``CHUNK`` rows at a time with their marks."""
        table = Table(self.path(job))
        columns = check_roles(job.options.columns, table)
        document = file_document(table.path, self.name, PARSER)
        mark = f"{document.sha256.hex()}:{'|'.join(f'{r}={c}' for r, c in sorted(columns.items()))}"
        if job.is_done(mark):
            return
        count = min(job.options.workers or job.settings.workers, 4)
        rows = _distinct(job, table, columns)
        cut = False
        with Crew("kb.sources.tables.rows:read_structure", count) as crew:
            for number in range(1 << 62):
                chunk = list(islice(rows, CHUNK))
                done = f"{mark}:{number}:{len(chunk)}" if chunk else mark
                if job.is_done(done):
                    table.problems = [problem for problem in table.problems if problem.cut]
                    continue
                batch = Batch(documents=[document])
                for row in _structures(crew, chunk, columns):
                    table.problems += add_row(batch, row, columns, document)
                cut = cut or any(problem.cut for problem in table.problems)
                yield self._part(job, batch, table, done if chunk or not (cut or job.options.limit) else None)
                if not chunk:
                    break
        if job.counts["rejected_rows"]:
            output.say(f"{job.counts['rejected_rows']} rows or values of {table.path.name} were rejected")

    def _part(self, job: Job, batch: Batch, table: Table, done: str | None) -> Part:
        """A chunk with what was wrong in it."""
        problems, table.problems = table.problems, []
        for problem in problems[:TOLD]:
            output.say(f"row {problem.row}: {problem.reason}")
        if len(problems) > TOLD:
            output.say(f"and {len(problems) - TOLD} more in these rows")

        def also(connection: Connection, _: Mapping[str, int]) -> None:
            write_problems(connection, job.run_id, self.name, batch.documents[0], problems)

        def then() -> None:
            job.counts["rejected_rows"] += len(problems)

        return Part(batch, done, also=also, then=then, size=len(batch.drugs))


def check_roles(columns: dict[str, str], table: Table) -> dict[str, str]:
    """The column map, if every role and column is known; raises UsageError otherwise."""
    if not columns and not table.is_sdf:
        raise UsageError("tabular needs to know the columns", hint="--column name=Name --column smiles=SMILES …")
    for role in columns:
        kind, _, rest = role.partition(".")
        known = PROPERTIES if kind == "property" else NAMESPACES if kind == "identifier" else PLAIN
        if (rest or role) not in known or (rest and kind not in ("property", "identifier")):
            known = known if rest else (*PLAIN, "identifier.<namespace>", "property.<name>")
            raise UsageError(f"unknown role {role!r}", hint=f"known: {', '.join(known)}")
    table.require(columns)
    return columns


def _distinct(job: Job, table: Table, columns: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows up to the limit; a row that repeats the user's own key is a problem."""
    seen: dict[str, int] = {}
    for taken, (number, cells) in enumerate(table.rows()):
        if job.options.limit is not None and taken >= job.options.limit:
            return
        key = cells.get(columns.get("key", ""), "").strip()
        if key and seen.setdefault(key, number) != number:
            table.problems.append(Problem(number, f"key {key!r} is also in row {seen[key]}"))
        else:
            yield number, cells


def _structures(
    crew: Crew, rows: Sequence[tuple[int, dict[str, str]]], columns: Mapping[str, str]
) -> Iterator[Row]:
    """The rows with what their SMILES or connection table was read as."""
    asked = [(cells.get(columns.get("smiles", ""), ""), cells.get(MOLBLOCK, "")) for _, cells in rows]
    todo = [n for n, (smiles, block) in enumerate(asked) if smiles.strip() or block]
    results = {todo[i]: result for i, result in crew.map([asked[n] for n in todo])}
    for n, (number, cells) in enumerate(rows):
        result = results.get(n)
        failed = result.reason if isinstance(result, Failure) else None
        yield Row(number, cells, None if failed else result, failed)
