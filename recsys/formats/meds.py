"""MEDS 0.4: Parquet files of (subject_id, time, code), as ``data/**/*.parquet``, in one folder, or one file.

A visit is a hospital admission: from the day of its ``HOSPITAL_ADMISSION`` event to the discharge that follows, or to
the next admission where none does. Events outside every admission are counted. The official MIMIC-IV extraction names
medications by text (``MEDICATION//START//<name>``, no NDC) and diagnoses as ``DIAGNOSIS//ICD//<version>//<code>``;
codes of the form ``<system>//<code>`` for ICD9CM, ICD10CM, ICD9Proc, ICD10PCS, NDC, RxNorm and ATC are read as well.
Spec: Medical-Event-Data-Standard/meds, DataSchema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError, NotFound
from recsys.cohorts.cohort import KINDS
from recsys.formats.contract import Int64, Ledger, PairCounter, Recorded
from recsys.formats.rows import add_coded
from recsys.formats.written import order_key
from recsys.orders.codes import icd, prefixed

TABLE = "events"
_NEVER = 1 << 40
_SYSTEMS = {"ICD9CM": ("diagnosis", "ICD9CM"), "ICD10CM": ("diagnosis", "ICD10CM"),
            "ICD9PROC": ("procedure", "ICD9PROC"), "ICD10PCS": ("procedure", "ICD10PCS")}


@dataclass(frozen=True)
class _Events:
    """A batch of timed events: subject numbers, seconds, and the code of each as one of ``codes``."""

    rows: int
    subjects: Int64
    times: Int64
    which: Int64
    codes: list[str]


def recognise(code: str) -> tuple[str, str] | str:
    """The kind and our code of a MEDS code, or the reason why it is none of ours."""
    system, _, rest = code.partition("//")
    parts = rest.split("//")
    if system in ("DIAGNOSIS", "PROCEDURE") and parts[0] == "ICD" and len(parts) >= 3:
        found = icd(parts[2], parts[1], procedure=system == "PROCEDURE")
        return (system.lower(), found) if found else "not a code of its system"
    if system == "MEDICATION" and parts[0] == "START" and len(parts) >= 2:
        key = order_key(names=(parts[1],))
        return ("medication", key) if key else "no drug name"
    kind, name = _SYSTEMS.get(system.upper(), ("", ""))
    if kind:
        found = prefixed(name, rest)
        return (kind, found) if found else "not a code of its system"
    if system.upper() in ("NDC", "RXNORM", "ATC"):
        given = {"NDC": {"ndc": rest}, "RXNORM": {"rxcuis": (rest,)}, "ATC": {"atc": (rest,)}}[system.upper()]
        key = order_key(**given)  # type: ignore[arg-type]
        return ("medication", key) if key else "neither NDC nor drug name"
    return "another kind of event"


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    folder = root / "data" if (root / "data").is_dir() else root
    files = sorted(path for path in folder.rglob("*.parquet") if "metadata" not in path.parts)
    if not files:
        raise NotFound(f"{root} has no Parquet files", hint="a MEDS folder holds data/*.parquet")
    return files


def _batches(files: list[Path], subjects: dict[int, int], ledger: Ledger) -> Iterator[_Events]:
    """All events of all files, without those that have no subject, time or code."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    for path in files:
        try:
            with parquet.ParquetFile(path) as file:
                missing = {"subject_id", "time", "code"} - set(file.schema_arrow.names)
                if missing:
                    raise DataError(f"{path.name} has no column {', '.join(sorted(missing))}",
                                    hint="MEDS data has subject_id, time and code")
                for batch in file.iter_batches(batch_size=500_000, columns=["subject_id", "time", "code"]):
                    ledger.read(TABLE, batch.num_rows)
                    for name, reason in (("subject_id", "no subject"), ("time", "no time"), ("code", "no code")):
                        kept = batch.filter(pc.is_valid(batch.column(name)))
                        ledger.lose(TABLE, reason, batch.num_rows - kept.num_rows)
                        batch = kept
                    code = batch.column("code").dictionary_encode()
                    time = batch.column("time").cast(pa.timestamp("s"), safe=False).cast(pa.int64())
                    yield _Events(
                        batch.num_rows,
                        _numbered(batch.column("subject_id").cast(pa.int64()).to_numpy(), subjects),
                        time.to_numpy(),
                        code.indices.to_numpy().astype(np.int64),
                        code.dictionary.to_pylist(),
                    )
        except (pa.ArrowException, OSError):
            raise DataError(f"{path.name} cannot be read as MEDS data", hint="compare its checksum") from None


def _numbered(identifiers: Int64, subjects: dict[int, int]) -> Int64:
    distinct, which = np.unique(identifiers, return_inverse=True)
    return np.asarray([subjects.setdefault(int(i), len(subjects)) for i in distinct], np.int64)[which]


@dataclass(frozen=True)
class _Admissions:
    """Admissions sorted by (subject, time); ``key`` orders them by subject and day."""

    subject: Int64
    start: Int64
    end: Int64

    @classmethod
    def between(cls, admitted: list[tuple[Int64, Int64]], discharged: list[tuple[Int64, Int64]]) -> _Admissions:
        """The admissions of (subject, time) events and the discharges that close them."""
        subject, start = _sorted(admitted)
        d_subject, d_time = _sorted(discharged)
        following = np.append(np.where(np.diff(subject) == 0, start[1:], _NEVER), _NEVER)[: len(subject)]
        at = np.searchsorted(_order(d_subject, d_time), _order(subject, start))
        closed = at < len(d_subject)
        at = np.minimum(at, max(len(d_subject) - 1, 0))
        end = np.full(len(subject), _NEVER)
        if len(d_subject):
            end = np.where(closed & (d_subject[at] == subject), d_time[at], _NEVER)
        return cls(subject, start, np.minimum(end, following))

    def find(self, subjects: Int64, times: Int64) -> Int64:
        """The admission that each event lies in, or -1."""
        if not len(self.subject):
            return np.full(len(subjects), -1)
        day = self.start - self.start % 86400
        at = np.searchsorted(_order(self.subject, day), _order(subjects, times), side="right") - 1
        candidate = np.maximum(at, 0)
        inside: NDArray[np.bool_] = (at >= 0) & (self.subject[candidate] == subjects)
        earlier = np.maximum(candidate - 1, 0)
        # An event of the day of admission, before the hour, may belong to the admission that ended that day.
        back = inside & (times < self.start[candidate]) & (times <= self.end[earlier]) & (earlier < candidate)
        candidate = np.where(back & (self.subject[earlier] == subjects), earlier, candidate)
        return np.where(inside & (times <= self.end[candidate]), candidate, -1)


def _order(subjects: Int64, times: Int64) -> Int64:
    return (subjects << 38) + times + (1 << 36)


def _sorted(events: list[tuple[Int64, Int64]]) -> tuple[Int64, Int64]:
    empty = np.empty(0, np.int64)
    subject, time = (np.concatenate([empty, *(pair[i] for pair in events)]) for i in (0, 1))
    order = np.lexsort((time, subject))
    return subject[order], time[order]


class Meds:
    """The MEDS format."""

    name = "meds"
    requires: tuple[str, ...] = ("diagnosis", "procedure", "medication")
    published: Mapping[str, Mapping[str, int]] = {}

    def read(self, root: Path, options: Mapping[str, Any]) -> Recorded:
        """Everything that the events record; two passes: admissions, then codes."""
        files, subjects, ledger = _files(root), dict[int, int](), Ledger()
        admitted: list[tuple[Int64, Int64]] = []
        discharged: list[tuple[Int64, Int64]] = []
        for events in _batches(files, subjects, Ledger()):
            for prefix, where in (("HOSPITAL_ADMISSION", admitted), ("HOSPITAL_DISCHARGE", discharged)):
                mask = np.asarray([c.partition("//")[0] == prefix for c in events.codes], bool)[events.which]
                where.append((events.subjects[mask], events.times[mask]))
        admissions = _Admissions.between(admitted, discharged)
        counters = {kind: PairCounter(TABLE, ledger) for kind in KINDS}
        for events in _batches(files, subjects, ledger):
            self._take(events, admissions, counters, ledger)
        identifiers = np.asarray(list(subjects), np.int64)
        rank = np.empty(len(identifiers), np.int64)
        rank[np.argsort(identifiers)] = np.arange(len(identifiers))
        ledger.read("admissions", len(admissions.subject))
        ledger.read("subjects", len(subjects))
        pairs = {kind: counter.pairs() for kind, counter in counters.items()}
        return Recorded(rank[admissions.subject], admissions.start, pairs, ledger, "admissions", len(subjects))

    def _take(
        self, events: _Events, admissions: _Admissions, counters: Mapping[str, PairCounter], ledger: Ledger
    ) -> None:
        """Give the events of a batch to the counter of their kind."""
        known = [recognise(code) for code in events.codes]
        kind_of = np.asarray([KINDS.index(k[0]) if isinstance(k, tuple) else -1 for k in known], np.int64)
        frequency = np.bincount(events.which, minlength=len(known))
        for reason, count in zip(known, frequency, strict=True):
            if isinstance(reason, str):
                ledger.lose(TABLE, reason, int(count))
        ours = kind_of[events.which] >= 0
        visit = np.full(events.rows, -1)
        visit[ours] = admissions.find(events.subjects[ours], events.times[ours])
        ledger.lose(TABLE, "outside every admission", int((ours & (visit < 0)).sum()))
        for i, kind in enumerate(KINDS):
            here = np.flatnonzero((kind_of[events.which] == i) & (visit >= 0))
            used, which = np.unique(events.which[here], return_inverse=True)
            add_coded(counters[kind], visit[here], [(known[code][1],) for code in used], which)


FORMAT = Meds()
