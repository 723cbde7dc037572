"""``mkmed recsys prepare``: an EHR export becomes a cohort, with every row accounted for.

Order of the choices, which the literature's scripts have the wrong way round: codes are mapped first, then visits that
lack a needed kind are left out, and only then patients with too few visits, so that no one-visit patient comes back in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from kb.errors import ContractViolation, DataError, UsageError
from kb.query.snapshot import cite
from kb.settings import Settings
from recsys.cohorts.cohort import KINDS, LEAST, Cohort, Ragged, Vocabulary, time_order
from recsys.cohorts.files import private_cohorts_folder, save_cohort
from recsys.formats import FORMATS
from recsys.formats.contract import Check, CodePairs, Limits, Recorded, check_counts
from recsys.orders.medications import (
    INGREDIENT,
    Mapped,
    MedicationMap,
    check_level,
    check_protocol,
    map_orders,
    read_map,
)
from recsys.orders.order import Order
from recsys.orders.own_map import OwnMap
from recsys.orders.resolve import EXPECTED, Resolver

KEEP = 0


@dataclass(frozen=True)
class Prepared:
    """A cohort, and what a user should see of how it came to be; ``folder`` is None after a dry run."""

    cohort: Cohort
    folder: Path | None
    checks: list[Check]
    unmapped: list[dict[str, Any]]

    @property
    def accounting(self) -> list[dict[str, Any]]:
        """The rows of the accounting for a listing, each beside the rows that were read of its table."""
        read: Counter[str] = Counter()
        for loss in self.cohort.accounting:
            read[loss.table] += loss.rows
        return [{**asdict(loss), "read": read[loss.table]} for loss in self.cohort.accounting]


def prepare(
    *, form: str, root: Path | None = None, connection: Connection | None = None, name: str | None = None,
    level: str = "3", min_visits: int = 2, requires: Sequence[str] | None = None, allow_subset: bool = False,
    options: Mapping[str, Any] | None = None, settings: Settings | None = None, dry_run: bool = False,
    protocol: str = "one", own_map: OwnMap | None = None, keep_vehicles: bool = False,
    memory: str = "4GB",
) -> Prepared:
    """Read an export, choose the cohort, check it and, unless ``dry_run``, save it.

    ``form`` is an EHR format; ``connection`` to the knowledge base is needed unless the export has ATC codes itself.
    ``level`` and ``protocol`` say what a label is (``recsys.orders.medications``); ``own_map`` wins over every other
    evidence; ``keep_vehicles`` makes labels of diluents too.
    ``memory`` bounds the engine that reads; what is more is spilled to a private folder beside the cohorts.
    Raises ContractViolation when files that look like a full published set have other row counts, unless
    ``allow_subset``; DataError when nothing is left.
    """
    check_level(level)
    check_protocol(protocol)
    reader = FORMATS[form]
    if root is None and form != "synthetic":
        raise UsageError(f"format {form!r} needs the folder of the export", hint="--root ~/mimic-iii")
    known = getattr(reader, "options", ())
    if strange := sorted(set(options or {}) - set(known)):
        raise UsageError(f"format {form!r} has no option {strange[0]!r}",
                         hint=f"it has {', '.join(known)}" if known else "it has none")
    if min_visits < 1 or set(requires or ()) - set(KINDS):
        raise UsageError("min-visits is 1 or more, and a visit can require: " + ", ".join(KINDS))
    if own_map and connection is not None:  # before an export is read for an hour
        read_map(connection, level, own_map=own_map).resolver.check_map()
    limits = Limits(memory, spill=None if dry_run or form == "synthetic" else private_cohorts_folder(settings))
    recorded = reader.read((root or Path()).expanduser(), options or {}, limits)
    checks = check_counts(reader.published, recorded.ledger.rows)
    failed = [check for check in checks if check.verdict == "FAILED"]
    if failed and not allow_subset:
        first = failed[0]
        raise ContractViolation(
            f"{first.dataset} {first.table}: {first.found} rows, published are {first.published}",
            hint="the download is incomplete or another version; --allow-subset takes it as it is",
        )
    medications = (read_map(connection, level, protocol=protocol, own_map=own_map, keep_vehicles=keep_vehicles)
                   if connection is not None else MedicationMap(level, protocol))
    mapped = map_orders(recorded.pairs["medication"], medications)
    cohort = choose_visits(name or form, recorded, mapped, tuple(requires or reader.requires), min_visits)
    cohort.provenance.update(
        format=form, level=level, min_visits=min_visits, requires=list(requires or reader.requires),
        protocol=protocol, keep_vehicles=keep_vehicles, own_map=dict(own_map.rows if own_map else {}),
        options=dict(options or {}), checks=[asdict(check) | {"verdict": check.verdict} for check in checks],
        knowledge=cite(connection) if connection is not None else None,
    )
    folder = None if dry_run else save_cohort(cohort, settings)
    return Prepared(cohort, folder, checks, shown_unmapped(mapped, recorded, medications.resolver))


@dataclass(frozen=True)
class Unmapped:
    """The orders of an export that name no drug, and how the others were found."""

    rows: int
    mapped_rows: int
    orders: int
    mapped_orders: int
    listed: list[dict[str, Any]]
    """``order``, ``means`` (empty, for the user to fill in), ``reason``, ``rows``, ``nearest``."""
    evidence: list[dict[str, Any]]


def unmapped(
    *, form: str, root: Path | None, connection: Connection, own_map: OwnMap | None = None, limit: int = 50,
    options: Mapping[str, Any] | None = None, memory: str = "4GB", everything: bool = False,
) -> Unmapped:
    """What of an export's orders names no drug; with ``everything`` vehicles and what is no drug as well."""
    if root is None:
        raise UsageError(f"format {form!r} needs the folder of the export", hint="--root ~/mimic-iii")
    medications = read_map(connection, INGREDIENT, own_map=own_map)
    medications.resolver.check_map()
    recorded = FORMATS[form].read(root.expanduser(), options or {}, Limits(memory, spill=None))
    mapped = map_orders(recorded.pairs["medication"], medications)
    lost = [item for item in mapped.unmapped if everything or item[1] not in EXPECTED]
    listed = shown_unmapped(replace(mapped, unmapped=lost), recorded, medications.resolver, limit)
    rows = int(recorded.pairs["medication"].rows.sum())
    evidence = [{"what": f"found by {how}", "rows": count}
                for how, count in sorted(mapped.how.items(), key=lambda item: -item[1])]
    evidence += [{"what": remark, "rows": count} for remark, count in sorted(mapped.remarks.items())]
    evidence += [{"what": reason, "rows": count} for reason, count in sorted(mapped.lost.items())]
    return Unmapped(rows, rows - sum(mapped.lost.values()), mapped.keys_in, mapped.keys_mapped,
                    [{"order": row["order"], "means": "", **row} for row in listed], evidence)


def choose_visits(name: str, recorded: Recorded, mapped: Mapped, requires: Sequence[str], min_visits: int) -> Cohort:
    """The cohort of the visits that have every needed kind, of patients that have enough such visits."""
    ledger = recorded.ledger
    pairs = {**recorded.pairs, "medication": mapped.pairs}
    for why, rows in mapped.lost.items():
        ledger.lose(mapped.pairs.table, why, rows)
    fate, reasons = _fates(recorded, pairs, requires, min_visits)
    if not (fate == KEEP).any():
        found = Counter(reasons[i] for i in fate.tolist())
        raise DataError(
            f"no patient is left of {recorded.patients}: "
            + "; ".join(f"{count} x {why}" for why, count in found.most_common()),
            hint="is the knowledge base filled? else try --min-visits 1 or --require diagnosis,medication",
        )
    kept = _account(recorded, pairs, fate, reasons)
    return _cohort(name, recorded, pairs, fate == KEEP, mapped, kept)


def _fates(
    recorded: Recorded, pairs: Mapping[str, CodePairs], requires: Sequence[str], min_visits: int
) -> tuple[NDArray[np.int8], list[str]]:
    """What becomes of each visit, as an index into the reasons; ``KEEP`` is the first of them."""
    visits = len(recorded.visit_patient)
    fate = np.full(visits, KEEP, np.int8)
    reasons = ["kept"]
    for kind in requires:
        lacking = fate == KEEP
        lacking[pairs[kind].visits] = False
        fate[lacking] = len(reasons)
        reasons.append(f"visit without a {kind}")
    patients = int(recorded.visit_patient.max(initial=-1)) + 1
    enough = np.bincount(recorded.visit_patient[fate == KEEP], minlength=patients) >= min_visits
    fate[(fate == KEEP) & ~enough[recorded.visit_patient]] = len(reasons)
    reasons.append(f"patient with fewer than {min_visits} such visits")
    return fate, reasons


def _account(
    recorded: Recorded, pairs: Mapping[str, CodePairs], fate: NDArray[np.int8], reasons: Sequence[str]
) -> Counter[str]:
    """Count what the left-out visits take with them; gives the rows that are kept, by table."""
    ledger, keep = recorded.ledger, fate == KEEP
    kept: Counter[str] = Counter()
    tables = [(recorded.visit_table, fate)]
    # A pair stands for one row or, with 0, for none.
    tables += [(pairs[kind].table, fate[pairs[kind].visits[pairs[kind].rows > 0]]) for kind in KINDS]
    for table, fates in tables:
        for why, reason in enumerate(reasons):
            count = int(np.count_nonzero(fates == why))
            if why == KEEP:
                kept[table] += count
            else:
                ledger.lose(table, reason, count)
    for patients in {"patients", "person", "subjects"} & set(ledger.rows):
        with_visit = int(np.count_nonzero(np.bincount(recorded.visit_patient)))
        chosen = int(np.count_nonzero(np.bincount(recorded.visit_patient[keep])))
        already = sum(rows for (where, _), rows in ledger.losses.items() if where == patients)
        ledger.lose(patients, "patient without a visit", ledger.rows[patients] - already - with_visit)
        ledger.lose(patients, "no visit of the patient is kept", with_visit - chosen)
        kept[patients] = chosen
    return kept


def _cohort(
    name: str, recorded: Recorded, pairs: Mapping[str, CodePairs], keep: NDArray[np.bool_], mapped: Mapped,
    kept: Mapping[str, int],
) -> Cohort:
    """The chosen visits in (patient, time) order, codes in the order of their names."""
    order = np.flatnonzero(keep)
    order = order[time_order(recorded.visit_patient[order], recorded.visit_time[order])]
    place = np.full(len(keep), -1, np.int32)
    place[order] = np.arange(len(order))
    codes: dict[str, Ragged] = {}
    vocabularies: dict[str, Vocabulary] = {}
    for kind in KINDS:
        codes[kind], names = _chosen(pairs[kind], keep, place, len(order))
        vocabularies[kind] = Vocabulary(tuple(names))
    ordered, ordered_pairs = _ordered(mapped.ordered, keep, place, len(order))
    ledger = recorded.ledger
    provenance = {
        "patients_in_source": recorded.patients,
        "notes": {**recorded.notes, **{f"{table}: {remark}": rows for (table, remark), rows in ledger.notes.items()}},
        "medication_keys": {"in": mapped.keys_in, "mapped": mapped.keys_mapped},
        "found_by": dict(sorted(mapped.how.items(), key=lambda item: -item[1])),
        "remarks": dict(sorted(mapped.remarks.items())),
    }
    return Cohort(
        name=name,
        visit_patient=_renumbered(recorded.visit_patient[order]),
        visit_time=recorded.visit_time[order].astype(np.int64),
        codes=codes,
        vocabularies=vocabularies,
        accounting=ledger.settled(kept),
        provenance=provenance,
        ordered=ordered,
        ordered_pairs=ordered_pairs,
        visit_end=None if recorded.visit_end is None else recorded.visit_end[order],
        attributes={name: taken for name, attribute in recorded.attributes.items()
                    if (taken := attribute.take(order)).levels},
    )


def _renumbered(patients: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Patients by their place among those that occur."""
    there = np.bincount(patients) > 0
    return (np.cumsum(there, dtype=np.int32) - np.int32(1))[patients]


def _ordered(ordered: CodePairs | None, keep: NDArray[np.bool_], place: NDArray[np.int32],
             visits: int) -> tuple[Ragged | None, tuple[tuple[str, str], ...]]:
    """The (label, ingredient) pairs of the chosen visits, in the order of their texts.

    None where they are not known or say nothing, since every label is its own ingredient.
    """
    if ordered is None or all(label == key for label, _, key in (text.partition("\t") for text in ordered.names)):
        return None, ()
    rows, names = _chosen(ordered, keep, place, visits)
    return rows, tuple((label, key) for label, _, key in (text.partition("\t") for text in names))


def _chosen(pairs: CodePairs, keep: NDArray[np.bool_], place: NDArray[np.int32],
            visits: int) -> tuple[Ragged, list[str]]:
    """The codes of the chosen visits, one row a visit, and the names that occur, in their order."""
    here = pairs if keep.all() else pairs.keep(keep[pairs.visits])
    names = sorted({here.names[i] for i in np.flatnonzero(np.bincount(here.codes)).tolist()})
    number = {text: i for i, text in enumerate(names)}
    renumbered = np.asarray([number.get(text, -1) for text in here.names], np.int32)
    return Ragged.from_pairs(place[here.visits], renumbered[here.codes], visits), names


def shown_unmapped(mapped: Mapped, recorded: Recorded, resolver: Resolver, limit: int = 50) -> list[dict[str, Any]]:
    """The commonest orders that did not map, with the nearest names; what few patients have is only summed."""
    rows: Counter[tuple[str, str]] = Counter()
    label_of: dict[str, tuple[str, str]] = {}
    for key, reason, count in mapped.unmapped:
        order = Order.parse(key)
        label_of[key] = order.name[0] if order.name else key.split("\t")[0], reason
        rows[label_of[key]] += count
    number = {label: i for i, label in enumerate(rows)}
    orders = recorded.pairs["medication"]
    label = np.asarray([number[label_of[key]] if key in label_of else -1 for key in orders.names], np.int64)
    label = np.append(label, -1)[orders.codes]
    lost = label >= 0
    held = np.unique(np.column_stack([label[lost], recorded.visit_patient[orders.visits[lost]]]), axis=0)[:, 0]
    patients = np.bincount(held, minlength=len(number))
    common = [(item, n) for item, n in rows.most_common() if patients[number[item]] >= LEAST]
    rest = [n for item, n in rows.items() if patients[number[item]] < LEAST] + [n for _, n in common[limit:]]
    listed: list[dict[str, Any]] = [
        {"order": text, "reason": reason, "rows": n, "nearest": ", ".join(resolver.nearest(text, reason))}
        for (text, reason), n in common[:limit]]
    if rest:
        listed.append({"order": f"({len(rest)} others)", "reason": "", "rows": sum(rest), "nearest": ""})
    return listed
