"""Any table of the user's: CSV, TSV or SDF with a declared column map.

``--column role=column`` says what the columns are. Roles: ``key`` (the user's own id), ``name``, ``synonym`` (several
with ``|``), ``smiles``, ``inchikey``, ``text``, ``atc``, ``identifier.<namespace>``, ``property.<name>``. A row needs a
structure, an identifier, a key or a name. In an SDF the connection table is the structure, and the conformer where it
has three dimensions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import Connection

from kb import output
from kb.compute.ahead import ahead
from kb.compute.places import open_pool
from kb.compute.pool import Failure, Pool, PoolTask
from kb.errors import DataError, UsageError
from kb.graph.link import relink
from kb.ingest.engine import register_source
from kb.ingest.retract import retract_records
from kb.licences import USER, Licence
from kb.modalities import Modality
from kb.normalise import NAMESPACES
from kb.properties import PROPERTIES
from kb.sources.contract import Document, Part, Plan, RecordBatch, Source
from kb.sources.tables.dataset import (
    Change,
    compare_rows,
    dataset_name,
    dataset_origin,
    read_dataset,
    require_consent,
    row_digest,
    stated_licence,
    table_version,
    write_version,
)
from kb.sources.tables.read import MOLBLOCK, Problem, UserTable, file_document, write_problems
from kb.sources.tables.rows import TableRow, add_row, key_of, roles_of

if TYPE_CHECKING:
    from kb.ingest.engine import Job

PARSER = "tabular/2"
CHUNK = 2000
SHARE = 64
"""Structures that a process reads at a time, some 50 ms."""
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
    options = frozenset({"path", "columns", "limit", "workers", "refresh_days", "dataset", "licence", "yes"})

    def plan(self, job: Job) -> Plan:
        """The rows of the file."""
        table = UserTable(self.path(job))
        check_roles(job.options.columns, table)
        rows = sum(1 for _ in table.rows()) + len(table.problems)
        return Plan(rows, seconds=rows / 500, bytes=table.path.stat().st_size)

    def read(self, job: Job) -> Iterator[Part]:
        """Compare the file with what is held of its dataset, and hand over what differs ``CHUNK`` rows at a time."""
        table = UserTable(self.path(job))
        columns = check_roles(job.options.columns, table)
        dataset = dataset_name(job.options.dataset, table.path)
        licence = stated_licence(job.options.licence)
        origin = dataset_origin(self.name, dataset, self.title, licence)
        document = file_document(table.path, origin.name, PARSER, licence)
        version = table_version(document, columns, whole=False)
        job.transact(lambda c: register_source(c, origin))
        held = job.transact(lambda c: read_dataset(c, origin.name))
        output.say(f"{table.path.name} is dataset {dataset}")
        if version.same_file(held.version) and held.version is not None and held.version.whole:
            return
        change = Change()
        if held.digests:
            coming = {row.key: row.digest for row in read_rows(table, columns, document, dataset, job.options.limit)}
            whole = job.options.limit is None and not any(problem.cut for problem in table.problems)
            table.problems.clear()  # told when the rows are read again to be written
            change = compare_rows(held.digests, coming, whole=whole)
            if change and not version.same_file(held.version):
                require_consent(dataset, change, yes=job.options.yes)
        job.transact(lambda c: write_version(c, origin.name, dataset, version))
        due = {*change.added, *change.changed}
        rows = (
            row
            for row in read_rows(table, columns, document, dataset, job.options.limit)
            if not held.digests or row.key in due
        )
        cut = False
        count = min(job.options.workers or job.settings.workers, 4)
        with (
            open_pool("local", PoolTask("kb.chemistry:read_structure"), count) as pool,
            closing(ahead(_batches(pool, table, rows, document, frozenset(change.changed)))) as batches,
        ):
            for batch, problems in batches:
                cut = cut or any(problem.cut for problem in problems)
                yield self._part(job, batch, problems, origin.name)
        finished = replace(version, whole=job.options.limit is None and not cut)

        def finish(connection: Connection, _: Mapping[str, int]) -> None:
            if change.removed:
                retract_records(connection, job.run_id, [(origin.name, key) for key in change.removed])
                relink(connection, job.run_id)
            write_version(connection, origin.name, dataset, finished)

        yield self._part(job, RecordBatch(documents=[document]), [], origin.name, finish)
        job.counts["removed"] += len(change.removed)
        if job.counts["rejected_rows"]:
            output.say(f"{job.counts['rejected_rows']} rows or values of {table.path.name} were rejected")

    def _part(
        self, job: Job, batch: RecordBatch, problems: Sequence[Problem], source: str,
        more: Callable[[Connection, Mapping[str, int]], None] | None = None,
    ) -> Part:
        """A chunk with what was wrong in it."""
        for problem in problems[:TOLD]:
            output.say(f"row {problem.row}: {problem.reason}")
        if len(problems) > TOLD:
            output.say(f"and {len(problems) - TOLD} more in these rows")

        def also(connection: Connection, ids: Mapping[str, int]) -> None:
            write_problems(connection, job.run_id, source, batch.documents[0], problems)
            if more is not None:
                more(connection, ids)

        def then() -> None:
            job.counts["rejected_rows"] += len(problems)

        return Part(batch, source=source, also=also, then=then, size=len(batch.drugs))


def _batches(
    pool: Pool, table: UserTable, rows: Iterator[TableRow], document: Document, changed: frozenset[str]
) -> Iterator[tuple[RecordBatch, list[Problem]]]:
    """What each ``CHUNK`` of rows becomes, and what was wrong in it."""
    read = _with_structures(pool, rows)
    while chunk := list(islice(read, CHUNK)):
        batch = RecordBatch(documents=[document], anew=changed & {row.key for row in chunk})
        for row in chunk:
            table.problems += add_row(batch, row, document)
        problems, table.problems = table.problems, []
        yield batch, problems
    if table.problems:
        yield RecordBatch(documents=[document]), table.problems


def check_roles(columns: dict[str, str], table: UserTable) -> dict[str, str]:
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


def read_rows(
    table: UserTable, columns: Mapping[str, str], document: Document, dataset: str, limit: int | None
) -> Iterator[TableRow]:
    """The rows up to the limit, each with its key; one that repeats the user's own key, or has no key, is a problem."""
    seen: dict[str, list[int]] = {}
    for number, cells in islice(table.rows(), limit):
        said = roles_of(cells, columns)
        try:
            key = key_of(said, dataset)
        except DataError as error:
            table.problems.append(Problem(number, error.message))
            continue
        if key is None:
            table.problems.append(Problem(number, "neither a structure, an identifier, a key nor a name"))
            continue
        places = seen.setdefault(key, [])
        places.append(number)
        if len(places) > 1 and said.get("key"):
            table.problems.append(Problem(number, f"key {said['key']!r} is also in row {places[0]}"))
            continue
        own = key if len(places) == 1 else f"{key}#{len(places)}"
        yield TableRow(number, own, row_digest(said, PARSER, document.licence), said, cells)


def _with_structures(pool: Pool, rows: Iterator[TableRow]) -> Iterator[TableRow]:
    """The rows with what their SMILES or connection table was read as, in their order; the pool never waits for one."""
    waiting: deque[tuple[TableRow, bool]] = deque()

    def asked() -> Iterator[tuple[str, str]]:
        for row in rows:
            smiles, block = row.said.get("smiles", ""), row.cells.get(MOLBLOCK, "")
            waiting.append((row, bool(smiles or block)))
            if smiles or block:
                yield smiles, block

    for result in pool.ordered(asked(), SHARE):
        while not waiting[0][1]:
            yield waiting.popleft()[0]
        row, _ = waiting.popleft()
        failed = result.reason if isinstance(result, Failure) else None
        yield replace(row, molecule=None if failed else result, failed=failed)
    yield from (row for row, _ in waiting)
