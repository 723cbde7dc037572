"""Titles and lineage of clinical codes: official names, ICD-9 and ICD-10 meeting, similarity by common ancestors."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.knowledge.codes import ancestry, code_lineage, title


@pytest.mark.parametrize(("code", "expected"), [
    ("ICD9CM:4280", "Congestive heart failure, unspecified"),
    ("ICD10CM:I50", "Heart failure"),
    ("ICD9CM:428", "Heart failure"),
    ("ICD10CM:I30-I5A", "Other forms of heart disease"),
    ("ICD9PROC:9672", "Continuous invasive mechanical ventilation for 96 consecutive hours or more"),
    ("EICU:pulmonary|ventilation and oxygenation|cpap", "pulmonary, ventilation and oxygenation, cpap"),
    ("ICD9CM:99999999", None),
    ("SNOMED:38341003", None),
])
def test_titles(code: str, expected: str | None) -> None:
    assert title(code) == expected


def test_same_digits_of_two_systems_have_their_own_titles() -> None:
    assert title("ICD9CM:0117") != title("ICD9PROC:0117")


def test_revisions_meet_in_the_same_category() -> None:
    assert set(code_lineage("ICD9CM:4280")) & set(code_lineage("ICD10CM:I5020")) == {"ICD10CM:I50", "ICD10CM:I30-I5A"}
    assert not set(code_lineage("ICD9CM:4280")) & set(code_lineage("ICD10CM:E119"))


def test_similarity_falls_with_distance_and_is_one_with_itself() -> None:
    matrix = ancestry(["ICD10CM:I5020", "ICD10CM:I5022", "ICD9CM:4280", "ICD10CM:I10", "ICD10CM:E119"])
    similarity = (matrix @ matrix.T).toarray()
    assert np.allclose(np.diag(similarity), 1, atol=1e-5)
    assert similarity[0, 1] > similarity[0, 2] > similarity[0, 3] >= similarity[0, 4] == 0
