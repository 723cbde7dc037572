"""A prepared cohort as data frames; what tells of single patients is given only when asked for."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from kb.errors import UsageError
from mkmed.frames import Frame, frame
from mkmed.places import settings_of
from recsys.cohorts.cohort import KINDS, LEAST, Cohort
from recsys.cohorts.files import load_cohort


class CohortView:
    """A cohort by name: its size, its codes, what was lost on the way, and its visits."""

    def __init__(self, data: Cohort) -> None:
        self.data = data

    @classmethod
    def load(cls, name: str, home: str | Path | None = None) -> CohortView:
        """See ``mkmed.cohort``."""
        return cls(load_cohort(name, settings_of(None, home)))

    @property
    def name(self) -> str:
        """Its name on this disk."""
        return self.data.name

    @property
    def fingerprint(self) -> str:
        """Patients, visits, vocabulary sizes and the sha256 over all arrays, in one line."""
        return str(self.data.fingerprint)

    def __len__(self) -> int:
        return self.data.patients

    def __repr__(self) -> str:
        return f"<mkmed cohort {self.name}: {self.fingerprint}>"

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(self.name)}</b>: {escape(self.fingerprint)}</p>{self.lost()._repr_html_()}"

    def lost(self) -> Frame:
        """The rows that were not taken: ``table``, ``reason``, ``rows``."""
        return frame(({"table": loss.table, "reason": loss.reason, "rows": loss.rows} for loss in self.data.accounting),
                     ("table", "reason", "rows"))

    def codes(self, kind: str = "medication") -> Frame:
        """The codes of a kind with how many patients have each, the most frequent first; fewer than 5 are not told."""
        if kind not in KINDS:
            raise UsageError(f"unknown kind of codes {kind!r}", hint=f"known: {', '.join(KINDS)}")
        ragged, codes = self.data.codes[kind], self.data.vocabularies[kind].codes
        patient = np.repeat(self.data.visit_patient, ragged.lengths)
        pairs = np.unique(np.stack([patient.astype(np.int64), ragged.values.astype(np.int64)]), axis=1)
        counts = np.bincount(pairs[1], minlength=len(codes))
        order = np.argsort(-counts, kind="stable")
        rows: list[dict[str, Any]] = [{"code": codes[i], "patients": int(counts[i]) if counts[i] >= LEAST else None}
                                      for i in order]
        return frame(rows, ("code", "patients")).astype({"patients": "Int64"})

    def visits(self) -> Frame:
        """One row a visit: ``patient``, ``time``, and its codes by kind; these are patients' data."""
        data = self.data
        columns: dict[str, Any] = {"patient": data.visit_patient, "time": data.visit_time}
        for kind in KINDS:
            ragged, codes = data.codes[kind], data.vocabularies[kind].codes
            columns[kind] = [[codes[i] for i in ragged.values[ragged.indptr[v]:ragged.indptr[v + 1]]]
                             for v in range(data.visits)]
        return Frame(columns)
