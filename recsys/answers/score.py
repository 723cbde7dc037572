"""Many patients at once: from a cohort or from lines of JSON to one Parquet file that its owner alone may read.

A line that is no patient costs itself: its row says why. Rows of one patient stand together, in the order given.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embed.runs.checkpoint import MANIFEST
from kb.compute.places import LOCAL, open_pool
from kb.compute.pool import Failure, PoolTask
from kb.errors import DataError, Incomplete
from kb.files import written
from recsys.answers.patient import LARGEST, Patient, Visit, parse_patient
from recsys.answers.recommend import RecommenderService
from recsys.cohorts.cohort import KINDS, Cohort
from recsys.experiments.checkpoint import load_recommender
from recsys.formats.scan import Bounds, open_bytes

BATCH = 256
"""Patients that are scored in one pass."""
WALL = 3600.0
"""Seconds for a batch."""
SCHEMA = pa.schema([
    ("patient", pa.string()), ("status", pa.string()), ("error", pa.string()), ("coverage", pa.float32()),
    ("rank", pa.int32()), ("medication", pa.string()), ("name", pa.string()), ("probability", pa.float32()),
    ("given_before", pa.int32()), ("alerts", pa.int32()),
])
"""``status`` is ok, refused (too little is understood) or failed; the last six columns are of one medication."""

Asked = tuple[str, Patient | None, str]
"""A patient's id, the patient, and why there is none."""


@dataclass
class Scored:
    """How many patients were read, and what became of them."""

    patients: int = 0
    ok: int = 0
    refused: int = 0
    failed: int = 0
    rows: int = 0

    def add(self, other: Scored) -> None:
        """Count what another part had, too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def from_lines(path: Path) -> Iterator[Asked]:
    """The patients of a file with one JSON document a line, gzipped or not; its ``id``, else the line's number.

    Raises DataError for a line that is longer than a patient may be, and UsageError for what is no regular file.
    """
    with open_bytes(path, Bounds()) as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST + 1), b""), 1):
            if len(line) > LARGEST:
                raise DataError(f"{path.name}: line {number} is longer than {LARGEST} bytes",
                                hint="one patient a line, as ndjson")
            if line.strip():
                yield _read(line, number)


def _read(line: bytes, number: int) -> Asked:
    name = str(number)
    try:
        document = json.loads(line)
        if isinstance(document, dict):
            name = str(document.pop("id", number))
        return name, parse_patient(document), ""
    except (ValueError, RecursionError):
        return name, None, "not JSON"
    except DataError as error:
        return name, None, error.message


def from_cohort(cohort: Cohort) -> Iterator[Asked]:
    """Each patient of a cohort, asked for the last visit, whose medications are left out; ids are numbers in it."""
    codes = {kind: cohort.vocabularies[kind].codes for kind in KINDS}

    def said(kind: str, visit: int) -> tuple[str, ...]:
        ragged = cohort.codes[kind]
        return tuple(codes[kind][i] for i in ragged.values[ragged.indptr[visit]:ragged.indptr[visit + 1]])

    starts = cohort.patient_indptr
    for patient in range(len(starts) - 1):
        rows = range(int(starts[patient]), int(starts[patient + 1]))
        visits = [Visit(said("diagnosis", v), said("procedure", v), said("medication", v)) for v in rows[:-1]]
        last = Visit(said("diagnosis", rows[-1]), said("procedure", rows[-1]))
        yield str(int(cohort.visit_patient[rows[0]])), Patient((*visits, last)), ""


def score(model: Path, asked: Iterator[Asked], target: Path, *, min_coverage: float = 0.5, on: str = LOCAL,
          workers: int = 1) -> Scored:
    """Write a model's answers for all patients, whole or not at all, and say how many there were of which kind.

    ``model`` is a run's file; it and the digests beside it are sent to where the patients are scored, ``on`` this
    machine or a Ray cluster.
    """
    done = Scored()
    with written(target) as place, pq.ParquetWriter(place, SCHEMA, compression="zstd") as writer:
        for part in _parts(model, iter(lambda: list(islice(asked, BATCH)), []), min_coverage, on, workers):
            if isinstance(part, Failure):
                raise DataError(f"some of the patients were not scored: {part.reason}")
            rows, own = part
            done.add(own)
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return done


def _parts(model: Path, batches: Iterator[list[Asked]], min_coverage: float, on: str, workers: int) -> Iterator[Any]:
    """(rows, counts) or Failure of each batch, in their order."""
    files = {path.name: path.read_bytes() for path in (model, model.with_name(MANIFEST))}
    if on == LOCAL and workers == 1:
        yield from map(scorer(files, model.name, min_coverage), batches)
        return
    arguments = {"files": files, "name": model.name, "min_coverage": min_coverage}
    task = PoolTask(f"{__name__}:scorer", arguments, seconds=WALL, memory=None)
    with open_pool(on, task, workers) as pool:
        yield from pool.ordered(batches, share=1)


def scorer(files: Mapping[str, bytes], name: str, min_coverage: float,
           ) -> Callable[[Sequence[Asked]], tuple[list[dict[str, Any]], Scored]]:
    """The function that answers for a batch of patients, with the model ``name`` of these files in memory."""
    with tempfile.TemporaryDirectory(prefix="mkmed-model-") as folder:
        for one, data in files.items():
            (Path(folder) / one).write_bytes(data)
        service = RecommenderService(load_recommender(Path(folder) / name))

    def work(batch: Sequence[Asked]) -> tuple[list[dict[str, Any]], Scored]:
        own = Scored()
        rows = list(_rows(service, batch, min_coverage, own))
        own.rows = len(rows)
        return rows, own

    return work


def _rows(service: RecommenderService, batch: Sequence[Asked], min_coverage: float,
          done: Scored) -> Iterator[dict[str, Any]]:
    known = [patient for _, patient, _ in batch if patient is not None]
    answers = iter(service.recommend_many(known, min_coverage=min_coverage) if known else [])
    for name, patient, error in batch:
        done.patients += 1
        if patient is None:
            done.failed += 1
            yield {"patient": name, "status": "failed", "error": error}
            continue
        answer = next(answers)
        share = answer.coverage.share
        if answer.refused is not None:
            done.refused += 1
            yield {"patient": name, "status": "refused", "error": answer.refused, "coverage": share}
            continue
        done.ok += 1
        alerted = [code for alert in answer.alerts for code in (alert.code, alert.other)]
        for rank, item in enumerate(answer.recommended, 1):
            yield {"patient": name, "status": "ok", "coverage": share, "rank": rank, "medication": item.code,
                   "name": item.name, "probability": item.probability, "given_before": item.given_before,
                   "alerts": alerted.count(item.code)}
        if not answer.recommended:
            yield {"patient": name, "status": "ok", "coverage": share}


def raise_if_unscored(done: Scored) -> None:
    """Raise Incomplete where a line was no patient."""
    if done.failed:
        raise Incomplete(f"{done.failed:,} of {done.patients:,} lines are no patients", hint="column error says why")
