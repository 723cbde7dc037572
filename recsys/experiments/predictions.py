"""What a run predicted at each test visit, as Parquet beside the cohort: a row a visit, for the owner's eyes alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kb.files import replace_file
from kb.settings import Settings
from recsys.cohorts.batches import Histories
from recsys.cohorts.files import private_folder


def predictions_path(settings: Settings, cohort: str, run: str) -> Path:
    """Where the predictions of a run lie."""
    return private_folder(cohort, "predictions", settings) / f"{run}.parquet"


def write_predictions(path: Path, medications: Sequence[str], rows: NDArray[np.int64], test: Histories,
                      probability: NDArray[np.float32], chosen: NDArray[np.bool_]) -> None:
    """Write the scored test visits: ``patient``, its number among the test patients, ``visit``, its row in the cohort.

    ``given`` and ``recommended`` are lists of medications, ``probability`` a list of K numbers in the order of the
    schema's metadata ``medications``. ``rows`` int64[N] are the cohort's rows of the test visits, ``probability`` and
    ``chosen`` [n, K] of the n scored ones.
    """
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = np.flatnonzero(test.scored)
    target = test.target(kept)
    names = pa.array(list(medications))

    def listed(mask: NDArray[np.bool_]) -> pa.ListArray:
        offsets = np.concatenate([[0], np.cumsum(mask.sum(1))]).astype(np.int32)
        return pa.ListArray.from_arrays(offsets, pa.DictionaryArray.from_arrays(
            np.nonzero(mask)[1].astype(np.int32), names))

    flat = pa.FixedSizeListArray.from_arrays(np.ascontiguousarray(probability, np.float32).ravel(), len(medications))
    table = pa.table({"patient": test.patient_of[kept], "visit": rows[kept], "given": listed(target),
                      "recommended": listed(chosen), "probability": flat})
    table = table.replace_schema_metadata({"medications": json.dumps(list(medications))})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    replace_file(path, buffer.getvalue())
