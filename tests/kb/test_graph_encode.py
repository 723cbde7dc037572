"""Triples of names to sorted distinct codes, and what the names of entities say."""

from __future__ import annotations

import random

import numpy as np
import pytest
from facts import TRIPLES, Rows
from hypothesis import given
from hypothesis import strategies as st

from kb.errors import DataError
from kb.graph.encode import encode_rows
from kb.graph.names import aliases_of, form_of


def test_counts_what_it_drops() -> None:
    coded = encode_rows(TRIPLES)
    assert (coded.counts.rows, coded.counts.duplicates, coded.counts.empty_ids) == (7, 1, 1)
    assert (coded.counts.self_loops, coded.counts.kept) == (1, 5)
    assert "Gene::NaN" in coded.entities and "Gene::" not in coded.entities
    assert coded.rows_of == {"DDI": 4, "GpBP": 3}


names = st.sampled_from(["A", "B b", "C"]).flatmap(lambda t: st.sampled_from([f"{t}::{i}" for i in ("", 1, 2, "x::y")]))


@given(st.lists(st.tuples(names, st.sampled_from(["r>", "r s", "q"]), names)), st.randoms())
def test_encoding_equals_a_set_of_tuples(rows: Rows, random: random.Random) -> None:
    coded = encode_rows(rows)
    back = [
        (coded.entities[h], coded.relation_names[r], coded.entities[t])
        for h, r, t in zip(coded.heads, coded.relations, coded.tails, strict=True)
    ]
    whole = [row for row in rows if not row[0].endswith("::") and not row[2].endswith("::")]
    assert back == sorted(set(whole))
    assert coded.counts.rows == len(rows) and coded.counts.duplicates == len(rows) - len(set(rows))
    assert coded.counts.empty_ids == len(rows) - len(whole)
    assert coded.counts.self_loops == sum(h == t for h, _, t in whole)
    again = encode_rows(random.sample(rows, len(rows)))
    assert again.entities == coded.entities and np.array_equal(again.tails, coded.tails)


@pytest.mark.parametrize("name", ["5595", "::5595", "Gene::" + "x" * 600, "Gene::a\0b"])
def test_refuses_what_is_not_an_entity(name: str) -> None:
    with pytest.raises(DataError):
        encode_rows([(name, "r", "Gene::1")])


def test_aliases_and_forms() -> None:
    assert aliases_of("Gene::5595;5594") == ["Gene::5594", "Gene::5595"]
    assert aliases_of("Compound::pubchem:2244") == ["pubchem.compound:2244"]
    assert aliases_of("Compound::CHEMBL25") == ["chembl:CHEMBL25"]
    assert aliases_of("Compound::chebi:15365") == aliases_of("Compound::CHEBI:15365") == ["chebi:15365"]
    assert aliases_of("Compound::MESH:C002480|MESH:C113043") == [
        "Compound::MESH:C002480",
        "Compound::MESH:C113043",
        "mesh:C002480",
        "mesh:C113043",
    ]
    assert aliases_of("Compound::brenda:1003") == [] == aliases_of("Compound::DBX")
    assert [form_of(f"Compound::{i}") for i in ("DB00945", "MESH:D1|MESH:D2", "zinc:ZINC1", "7")] == [
        "DrugBank",
        "list of MESH",
        "zinc",
        "number",
    ]
