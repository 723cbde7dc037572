"""A trained recommender as an object: patients in, medications with alerts and reasons out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.errors import NotUnderstood
from kb.settings import Settings
from mkmed.frames import Frame, frame
from mkmed.places import settings_of
from recsys.answers.patient import Patient, parse_patient, read_patient
from recsys.experiments.run_folders import find_folder, read_report, report_rows

if TYPE_CHECKING:
    from recsys.answers.recommend import Answer, RecommenderService

Given = Mapping[str, Any] | str | Path | Patient
"""A patient: ``{"visits": [{"diagnoses": […], …}, …]}``, the path of such a JSON file, or one read already."""


@dataclass(frozen=True)
class Recommended:
    """The answer for one patient; research software, not a medical device."""

    answer: Answer

    @property
    def refused(self) -> str | None:
        """Why there is no answer; None where there is one."""
        return self.answer.refused

    @property
    def medications(self) -> Frame:
        """``code``, ``name``, calibrated ``probability``, ``given_before``, ``rests_on``, ``accepted``; best first."""
        rows = [item._asdict() for item in self.answer.recommended]
        return frame(rows, ("code", "name", "probability", "given_before", "rests_on", "accepted"))

    @property
    def avoided(self) -> Frame:
        """What was left out because of interactions: ``code``, ``name``, ``probability``, ``because_of``."""
        return frame([item._asdict() for item in self.answer.avoided], ("code", "name", "probability", "because_of"))

    @property
    def alerts(self) -> Frame:
        """Interactions of what is recommended, among itself and with what was given before or is taken at home."""
        return Frame([alert.row() for alert in self.answer.alerts])

    @property
    def coverage(self) -> dict[str, Any]:
        """How much of the patient is understood, and which codes are not."""
        return self.answer.coverage.as_json()

    def __repr__(self) -> str:
        return f"<{self.refused or f'{len(self.answer.recommended)} medications, {len(self.answer.alerts)} alerts'}>"

    def _repr_html_(self) -> str:
        head = f"<p><i>{escape(self.answer.warning)}</i></p>"
        if self.refused:
            return f"{head}<p>{escape(self.refused)}</p>"
        alerts = f"<p>Alerts</p>{self.alerts._repr_html_()}" if self.answer.alerts else ""
        return f"{head}{self.medications._repr_html_()}{alerts}"


class Recommender:
    """A trained recommender by its run."""

    def __init__(self, settings: Settings, run: str) -> None:
        self.settings, self.folder = settings, find_folder(settings, run)

    @classmethod
    def load(cls, run: str = "", home: str | Path | None = None) -> Recommender:
        """See ``mkmed.recommender``."""
        return cls(settings_of(None, home), run)

    @classmethod
    def train(cls, cohort: str, recommender: str, url: str | None, home: str | Path | None,
              settings: Mapping[str, Any]) -> Recommender:
        """See ``mkmed.train``."""
        from kb.db.engine import open_engine
        from recsys.experiments.config import from_json
        from recsys.experiments.runs import train_run

        place = settings_of(url, home)
        config = from_json({**settings, "cohort": cohort, "recommender": recommender})
        return cls(place, train_run(config, place, open_engine(place)).run_id)

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.name

    def __repr__(self) -> str:
        return f"<mkmed recommender {self.run[:8]}>"

    @cached_property
    def _service(self) -> RecommenderService:
        from recsys.answers.recommend import RecommenderService

        return RecommenderService.open(self.settings, self.run)

    @property
    def report(self) -> dict[str, Any]:
        """The evaluation on the test patients as it was stored."""
        return read_report(self.settings, self.run)

    def metrics(self, by: str = "summary") -> Frame:
        """The evaluation as a table: by summary, visits, subgroup, rarity, bucket, calibration or literature."""
        return Frame(report_rows(self.report, by))

    def recommend(self, patient: Given | Sequence[Given], *, min_coverage: float = 0.5) -> Any:
        """The answer for one patient (``Recommended``), or a list of answers for a list of patients.

        Below ``min_coverage``, the share of the patient's codes that are understood, an answer is refused and says so.
        Raises DataError for what is no patient.
        """
        if isinstance(patient, Sequence) and not isinstance(patient, str):
            asked = [_patient(one) for one in patient]
            return [Recommended(one) for one in self._service.recommend_many(asked, min_coverage=min_coverage)]
        return Recommended(self._service.recommend(_patient(patient), min_coverage=min_coverage))

    def explain(self, patient: Given, medications: Sequence[str] | None = None) -> Frame:
        """The strongest reasons of each medication (the recommended ones by default), in changes of the log-odds.

        Raises NotUnderstood where too little of the patient is understood.
        """
        from recsys.answers.explain import explain_with_fragments

        read = _patient(patient)
        answer = self._service.recommend(read)
        if answer.refused:
            raise NotUnderstood(answer.refused)
        wanted = list(medications) if medications is not None else [item.code for item in answer.recommended]
        found = explain_with_fragments(self._service, read, wanted, self.settings)
        return Frame([row for reason in found for row in reason.rows()])


def _patient(given: Given) -> Patient:
    if isinstance(given, Patient):
        return given
    return parse_patient(given) if isinstance(given, Mapping) else read_patient(Path(given), "patient")
