"""What listings look like to the programs that read them."""

from __future__ import annotations

import csv
import io
import json

import pytest

from kb.output import Format, emit


def test_nested_values_are_json_in_csv(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"counts": {"drugs": 1, "none": None}, "codes": ["A10BA02"], "text": "=1+1"}
    emit([row], Format.csv)
    (read,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (json.loads(read["counts"]), json.loads(read["codes"])) == (row["counts"], row["codes"])
    assert read["text"] == "'=1+1"


def test_an_empty_listing_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], Format.csv, columns=("number", "drug"))
    emit([], Format.json)
    assert capsys.readouterr().out == "number,drug\n[]\n"
