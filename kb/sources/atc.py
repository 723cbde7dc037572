"""ATC codes of drugs, names of ATC classes and defined daily doses: the bundled ones, or the user's own table.

A user's table (CSV, TSV, or the XML that WHO's centre sells) has a column ``code`` and one at least of ``drug``
(``namespace:value`` or a name), ``name`` (of the class) and ``ddd`` with its ``unit``, ``route`` and ``note``. WHO's
names of the columns are known, ``--column`` maps others onto these. WHO's own index may not be passed on, so the
bundled codes come by way of PharmGKB, without doses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from kb.bundle import Bundle
from kb.errors import DataError, UsageError
from kb.licences import BY_SA, USER, Licence
from kb.normalise import Identifier, read_number
from kb.sources.contract import AtcClassRecord, AtcRecord, DddRecord, Document, RecordBatch
from kb.sources.tables.columns import TableSource
from kb.sources.tables.read import UserTable


class Atc(TableSource):
    """ATC codes at every level."""

    name = "atc"
    title = "ATC classification by way of PharmGKB"
    url = "https://www.pharmgkb.org"
    origin = "bundled"
    licences: ClassVar[tuple[Licence, ...]] = (BY_SA, USER)
    bundled_file, parser = "atc.tsv.gz", "atc/1"
    roles = ("code", "drug", "name", "ddd", "unit", "route", "note")
    required, drug_roles = ("code",), ("drug",)
    known_as: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "code": ("ATCCode", "atc_code"), "name": ("Name", "atc_name"), "ddd": ("DDD",), "unit": ("UnitType", "uom"),
        "route": ("AdmCode", "adm_r"), "note": ("DDDComment",)}

    def keys(self, bundle: Bundle) -> set[str]:
        """The drugs that have a bundled code."""
        return {row["key"] for row in bundle.rows(self.bundled_file)}

    def bundled(self, bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
        """The bundled codes of the drugs in ``ids``, and all bundled class names."""
        codes = bundle.document(self.bundled_file, self.name, self.parser)
        classes = bundle.document("atc_classes.tsv.gz", self.name, self.parser)
        return RecordBatch(
            atc=[AtcRecord(ids[r["key"]], codes, r["code"]) for r in bundle.rows(self.bundled_file) if r["key"] in ids],
            atc_classes=[AtcClassRecord(r["code"], r["name"], classes) for r in bundle.rows("atc_classes.tsv.gz")],
            whole=True,
        )

    def digest(self, bundle: Bundle) -> str:
        """Changes with the codes and with the names of classes."""
        return super().digest(bundle) + str(bundle.manifest["atc_classes.tsv.gz"]["sha256"])[:16]

    def check(self, table: UserTable, rows: Sequence[Mapping[str, str]]) -> None:
        """Raise UsageError for a table of bare codes."""
        if rows and not any(row["drug"] or row["name"] or row["ddd"] for row in rows):
            raise UsageError(f"{table.path.name} has neither drugs nor class names nor doses",
                             hint="--column drug=…, name=… or ddd=…")

    def take(
        self, batch: RecordBatch, row: Mapping[str, str], ids: Mapping[str, int], document: Document
    ) -> str | None:
        """Add the drug's code, the class's name and the dose; malformed ones and unknown drugs are rejected."""
        try:
            code = Identifier.make("atc", row["code"]).value
        except DataError as error:
            return error.message
        said = {role: "" if cell in MISSING else cell for role, cell in row.items()}
        dose = _dose(code, said, document) if said["ddd"] else None
        if isinstance(dose, str):
            return dose
        if said["drug"]:
            if said["drug"].lower() not in ids:
                return f"no drug, or several, {said['drug']!r}"
            batch.atc.append(AtcRecord(ids[said["drug"].lower()], document, code))
        elif not said["name"] and dose is None:
            return "neither a drug nor a class name nor a dose"
        if said["name"]:
            batch.atc_classes.append(AtcClassRecord(code, said["name"], document))
        if dose is not None:
            batch.ddd.append(dose)
        return None


MISSING = ("NA", "NULL")
"""What tables write where there is nothing."""


def _dose(code: str, said: Mapping[str, str], document: Document) -> DddRecord | str:
    """The defined daily dose of a row, or why it is none."""
    value = read_number(said["ddd"].replace(",", "."))
    if value is None:
        return f"the dose {said['ddd']!r} is no number"
    if value <= 0:
        return f"the dose {said['ddd']!r} is none"
    if not said["unit"]:
        return f"the dose {said['ddd']!r} has no unit"
    return DddRecord(code, value, said["unit"], document, said["route"], said["note"])
