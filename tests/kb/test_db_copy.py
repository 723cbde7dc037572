"""Binary COPY: what goes in comes out bit for bit, and what does not fit is refused."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text

from kb.db.bulk import CHUNK_ROWS, copy_arrays, copy_out
from kb.errors import DataError


@pytest.fixture
def scratch(fresh_database: Engine):
    with fresh_database.begin() as connection:
        connection.execute(text(
            "CREATE TABLE mkmed.scratch (a int2, b int4, c int8, d float4, e float8, f bool, g text, h bytea,"
            " i uuid, j jsonb, k ext.vector(3), l ext.halfvec(2), m timestamptz, n numeric)"
        ))
        yield connection


def test_numbers_survive_in_bulk_across_chunks(scratch: Connection) -> None:
    rows = CHUNK_ROWS + 17
    rng = np.random.default_rng(3)
    given_arrays = {
        "b": rng.integers(-2**31, 2**31, rows, dtype=np.int64), "c": rng.integers(-2**62, 2**62, rows),
        "d": rng.normal(size=rows).astype(np.float32), "e": rng.normal(size=rows), "f": rng.random(rows) < 0.5,
        "k": rng.normal(size=(rows, 3)).astype(np.float32),
    }
    assert copy_arrays(scratch, "scratch", list(given_arrays), list(given_arrays.values())) == rows
    got = copy_out(scratch, "SELECT b, c, d, e, f, k FROM mkmed.scratch")
    for name, array in given_arrays.items():
        np.testing.assert_array_equal(got[name], array)
    assert got["b"].dtype == np.int32 and got["k"].shape == (rows, 3)


def test_text_bytes_json_uuid_and_missing_values_survive(scratch: Connection) -> None:
    key = uuid.uuid4()
    copy_arrays(scratch, "mkmed.scratch", ["b", "e", "g", "h", "i", "j", "k", "l"], [
        np.array([1, 2], dtype=np.int32), [0.5, None], ["é\t\\N", None], [b"\x00\xff", None], [key, None],
        [{"a": [1, "ü"]}, None], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[0.5, 1.5], [2.5, 3.5]],
    ])
    got = copy_out(scratch, "SELECT b, e, g, h, i, j, k, l FROM mkmed.scratch ORDER BY b")
    assert got["g"].tolist() == ["é\t\\N", None] and got["h"].tolist() == [b"\x00\xff", None]
    assert got["i"].tolist() == [key, None] and got["j"].tolist() == [{"a": [1, "ü"]}, None]
    assert got["e"][0] == 0.5 and np.isnan(got["e"][1])
    np.testing.assert_array_equal(got["k"], np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float32))
    np.testing.assert_array_equal(got["l"], np.array([[0.5, 1.5], [2.5, 3.5]], dtype=np.float32))


def test_times_survive_to_the_microsecond(scratch: Connection) -> None:
    times = [datetime(1987, 6, 5, 4, 3, 2, 1, tzinfo=UTC), None, datetime(2099, 1, 1, tzinfo=UTC)]
    copy_arrays(scratch, "scratch", ["m"], [times])
    assert copy_out(scratch, "SELECT m FROM mkmed.scratch")["m"].tolist() == times


def test_query_takes_parameters_and_an_empty_answer_keeps_its_types(scratch: Connection) -> None:
    copy_arrays(scratch, "scratch", ["b", "g"], [np.array([1, 2]), ["it's", "b"]])
    got = copy_out(scratch, "SELECT b FROM mkmed.scratch WHERE g = %(g)s", {"g": "it's"})
    assert got["b"].tolist() == [1]
    empty = copy_out(scratch, "SELECT b, g, k FROM mkmed.scratch WHERE false")
    assert empty["b"].dtype == np.int32 and len(empty["g"]) == 0 and empty["k"].shape == (0, 0)


@pytest.mark.parametrize(("column", "values"), [
    ("a", np.array([40_000])), ("b", np.array([2**40])), ("b", np.array([0.5])), ("g", [3]), ("b", ["x"]),
    ("k", np.array([[np.nan, 0, 0]])), ("k", [[np.inf, 0, 0]]), ("g", ["\ud800"]), ("j", [float("nan")]),
    ("m", ["2020-01-01"]), ("n", [1]), ("nope", [1]),
])
def test_what_does_not_fit_is_refused(scratch: Connection, column: str, values: object) -> None:
    with pytest.raises(DataError):
        copy_arrays(scratch, "scratch", [column], [values])


def test_missing_integer_is_an_error_and_not_a_zero(scratch: Connection) -> None:
    copy_arrays(scratch, "scratch", ["b"], [[1, None]])
    with pytest.raises(DataError, match="missing"):
        copy_out(scratch, "SELECT b FROM mkmed.scratch")


def test_arrays_of_different_lengths_are_refused(scratch: Connection) -> None:
    with pytest.raises(DataError, match="lengths"):
        copy_arrays(scratch, "scratch", ["b", "c"], [np.arange(3), np.arange(4)])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(
    st.integers(-2**31, 2**31 - 1),
    st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.none() | st.binary(max_size=50)), max_size=30))
def test_any_rows_come_back(scratch: Connection, rows: list[tuple[int, str | None, bytes | None]]) -> None:
    scratch.execute(text("TRUNCATE mkmed.scratch"))
    columns = [[row[i] for row in rows] for i in range(3)]
    copy_arrays(scratch, "scratch", ["b", "g", "h"], columns)
    got = copy_out(scratch, "SELECT b, g, h FROM mkmed.scratch")
    assert [tuple(row) for row in zip(*(got[n].tolist() for n in "bgh"), strict=True)] == rows
