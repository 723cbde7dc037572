"""What sources share that have a bundled table and take the user's own instead: columns, drugs, rejected rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import Connection, select

from kb import output
from kb.bundle import Bundle
from kb.errors import UsageError
from kb.ingest.engine import register_source
from kb.normalise import too_long
from kb.schema.graph import atc_ddd, drug_atc, interaction
from kb.sources.contract import Document, Part, Plan, RecordBatch, Source
from kb.sources.tables.dataset import (
    Version,
    compare_rows,
    dataset_name,
    dataset_origin,
    read_dataset,
    require_consent,
    stated_licence,
    table_version,
    write_version,
)
from kb.sources.tables.read import Problem, UserTable, drugs_by_handle, file_document, replace_problems

if TYPE_CHECKING:
    from kb.ingest.engine import Job

SECONDS_A_ROW = 5e-4


class TableSource(Source):
    """A source that writes facts about drugs that are known already, out of one table."""

    options = frozenset({"path", "columns", "refresh_days", "dataset", "licence", "yes"})
    bundled_file: ClassVar[str]
    parser: ClassVar[str]
    roles: ClassVar[tuple[str, ...]]
    """What a column may be; ``--column role=header`` maps other headers onto these."""
    required: ClassVar[tuple[str, ...]]
    known_as: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Other headers that a role is known by."""
    drug_roles: ClassVar[tuple[str, ...]]
    """The roles whose cells name drugs, by ``namespace:value`` or by name."""

    @abstractmethod
    def keys(self, bundle: Bundle) -> set[str]:
        """The drugs that the bundled table is about, as ``namespace:value``."""

    @abstractmethod
    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
        """What the bundled table says of the drugs in ``ids``, by ``namespace:value``."""

    @abstractmethod
    def take(
        self, batch: RecordBatch, row: Mapping[str, str], ids: Mapping[str, int], document: Document
    ) -> str | None:
        """Add one row of the user's to the batch; or the reason why it cannot be. ``ids`` has lower-case handles."""

    def settle(self, batch: RecordBatch) -> None:
        """Put the batch in order once all rows were taken; nothing by default."""

    def digest(self, bundle: Bundle) -> str:
        """What changes when the bundled table does."""
        return str(bundle.manifest[self.bundled_file]["sha256"])

    def check(self, table: UserTable, rows: Sequence[Mapping[str, str]]) -> None:
        """Raise UsageError for a table that cannot be meant; every table may be, by default."""

    def plan(self, job: Job) -> Plan:
        """The rows and bytes of the table."""
        if job.options.path is None:
            bundle = Bundle.open()
            rows = int(bundle.manifest[self.bundled_file]["rows"])
            size = (bundle.folder / self.bundled_file).stat().st_size
        else:
            table = UserTable(self.path(job))
            self._columns(job, table)
            rows, size = sum(1 for _ in table.rows()) + len(table.problems), table.path.stat().st_size
        return Plan(rows, seconds=rows * SECONDS_A_ROW, bytes=size)

    def read(self, job: Job) -> Iterator[Part]:
        """The bundled table or the user's; one that was written with as many known drugs is passed over."""
        if job.options.path is not None:
            return self._from_file(job)
        unused = [name for name in job.options.given() if name in ("--column", "--dataset", "--licence", "--yes")]
        if unused:
            raise UsageError(f"{unused[0]} is for a table of your own", hint="add --path FILE, or leave it out")
        return self._from_bundle(job)

    def _from_bundle(self, job: Job) -> Iterator[Part]:
        bundle = Bundle.open()
        keys = self.keys(bundle)
        found = job.transact(lambda c: drugs_by_handle(c, list(keys)))
        ids = {key: found[key.lower()] for key in keys if key.lower() in found}
        # More drugs may be known the next time, so the mark tells how many were.
        mark = f"{self.bundled_file}:{self.digest(bundle)}:{len(ids)} drugs"
        if not job.is_done(mark):
            yield Part(self.bundled(bundle, ids), mark)
            output.say(f"{len(ids)} of the {len(keys)} drugs of {self.bundled_file} are known")

    def _columns(self, job: Job, table: UserTable) -> dict[str, str]:
        """The header of every role; raises UsageError for an unknown role and for a column that is not there."""
        given = job.options.columns
        unknown = next((role for role in given if role not in self.roles), None)
        if unknown is not None:
            raise UsageError(f"unknown role {unknown!r}", hint=f"{self.name} knows: {', '.join(self.roles)}")
        header = () if table.is_sdf else table.header()
        usual = {role: next((name for name in (role, *self.known_as.get(role, ())) if name in header), role)
                 for role in self.roles}
        columns = {role: given.get(role, usual[role]) for role in self.roles}
        table.require({role: columns[role] for role in (*self.required, *given)})
        return columns

    def _from_file(self, job: Job) -> Iterator[Part]:
        table = UserTable(self.path(job))
        dataset = dataset_name(job.options.dataset, table.path)
        licence = stated_licence(job.options.licence)
        origin = dataset_origin(self.name, dataset, self.title, licence)
        columns, document = self._columns(job, table), file_document(table.path, origin.name, self.parser, licence)
        rows = {n: {role: cells.get(columns[role], "").strip() for role in self.roles} for n, cells in table.rows()}
        self.check(table, list(rows.values()))
        named = [row[role] for row in rows.values() for role in self.drug_roles]
        job.transact(lambda c: register_source(c, origin))
        ids = job.transact(lambda c: drugs_by_handle(c, named))
        held = job.transact(lambda c: read_dataset(c, origin.name))
        before = job.transact(lambda c: stated(c, origin.name))
        # More drugs may be known the next time, so the version tells how many were.
        version = table_version(document, columns | {"": f"{len(ids)} drugs"}, whole=True)
        if version.same_file(held.version):
            return
        batch = RecordBatch(documents=[document], whole=True)
        for number, row in rows.items():
            refused = [why for role in self.roles if role != "description" and (why := too_long(row[role], role))]
            reason = refused[0] if refused else self.take(batch, row, ids, document)
            if reason:
                table.problems.append(Problem(number, reason))
        self.settle(batch)
        output.say(f"{table.path.name} is dataset {dataset}")
        if before and held.version is not None and held.version.sha256 != version.sha256:
            change = compare_rows(dict.fromkeys(before), dict.fromkeys(statements(batch), b""))
            if change.added or change.removed:
                require_consent(dataset, replace(change, changed=()), yes=job.options.yes)
        yield self._part(job, batch, origin.name, dataset, version, table.problems)

    def _part(
        self, job: Job, batch: RecordBatch, source: str, dataset: str, version: Version, problems: Sequence[Problem]
    ) -> Part:
        """The table with what was wrong in it."""

        def also(connection: Connection, _: Mapping[str, int]) -> None:
            replace_problems(connection, job.run_id, source, batch.documents[0], problems)
            write_version(connection, source, dataset, version)

        def then() -> None:
            job.counts["rejected"] += len(problems)
            if problems:
                first = problems[0]
                output.say(f"{len(problems)} rows rejected; the first is row {first.row}: {first.reason}")

        return Part(batch, source=source, also=also, then=then)


def statements(batch: RecordBatch) -> set[str]:
    """The ATC codes and interactions of a batch, by drug id, and its daily doses."""
    codes = {f"drug {record.drug}: {record.code}" for record in batch.atc}
    pairs = {(*sorted((int(r.drug_a), int(r.drug_b))), r.provider) for r in batch.interactions}
    codes |= {_dose(record.code, record.route, record.unit, record.note) for record in batch.ddd}
    return codes | {f"drugs {a} and {b}: {provider}" for a, b, provider in pairs}


def stated(connection: Connection, source: str) -> set[str]:
    """Those that are held of a source."""
    codes = select(drug_atc.c.drug_id, drug_atc.c.code).where(drug_atc.c.source == source)
    pairs = select(interaction.c.drug_a, interaction.c.drug_b, interaction.c.provider)
    found = {f"drug {drug_id}: {code}" for drug_id, code in connection.execute(codes)}
    doses = select(atc_ddd.c.code, atc_ddd.c.route, atc_ddd.c.unit, atc_ddd.c.note).where(atc_ddd.c.source == source)
    found |= {_dose(*row) for row in connection.execute(doses)}
    for a, b, provider in connection.execute(pairs.where(interaction.c.source == source)):
        found.add(f"drugs {min(a, b)} and {max(a, b)}: {provider}")
    return found


def _dose(code: str, route: str, unit: str, note: str) -> str:
    return f"dose of {code}: {' '.join(filter(None, (unit, route, note)))}"
