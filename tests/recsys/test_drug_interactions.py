"""Interactions are between two drugs; what classes inherit of them, and what a matrix of another vocabulary does."""

import numpy as np
import pytest
from by_hand import DOCUMENT, write

from kb.errors import DataError, UsageError
from kb.normalise import Identifier
from kb.sources.contract import DrugRecord, InteractionRecord
from recsys.knowledge.gather import read_knowledge
from recsys.orders.interactions import (
    SEVERITIES,
    DrugInteractions,
    Interactions,
    compared,
    grade,
    interactions_between,
    read_interactions,
    read_matrix,
    rolled_up,
    supplied,
)

ASPIRIN, WARFARIN, CITALOPRAM, TRAMADOL = (f"drugbank:DB{n}" for n in ("00945", "00682", "00215", "00193"))
DRUGS = {ASPIRIN: ("Aspirin", ("B01AC06", "N02BA01")), WARFARIN: ("Warfarin", ("B01AA03",)),
         CITALOPRAM: ("Citalopram", ("N06AB04",)), TRAMADOL: ("Tramadol", ("N02AX02",))}


@pytest.fixture(scope="module")
def known(database):
    records = [DrugRecord(key, name, DOCUMENT, identifiers=(Identifier.parse(key),)) for key, (name, _) in DRUGS.items()]
    licence = "CC0-1.0"
    pairs = [InteractionRecord(WARFARIN, ASPIRIN, DOCUMENT, "NDF-RT", licence, "Significant"),
             InteractionRecord(WARFARIN, ASPIRIN, DOCUMENT, "ONC-HighPriority", licence),
             InteractionRecord(TRAMADOL, CITALOPRAM, DOCUMENT, "mine", licence, "odd", "serotonin syndrome")]
    write(database, records, {key: codes for key, (_, codes) in DRUGS.items()}, pairs)
    with database.connect() as connection:
        yield read_interactions(connection)


def key(drug):
    return f"DRUG:{drug}"


def test_statements_carry_severity_source_licence_and_text(known):
    found = interactions_between(known, [key(d) for d in DRUGS])
    assert [(s.first_name, s.second_name, s.severity, s.said, s.source) for s in found] == [
        ("Warfarin", "Aspirin", "high", "on the ONC list of pairs that should always alert", "ONC-HighPriority"),
        ("Warfarin", "Aspirin", "moderate", "Significant", "NDF-RT"),
        ("Tramadol", "Citalopram", "unknown", "odd", "mine")]
    assert {s.licence for s in found} == {"CC0-1.0"}
    assert found[2].text == "serotonin syndrome" and found[1].text == "Warfarin with Aspirin: Significant (NDF-RT)"
    assert all(s.severity in SEVERITIES for s in found)


def test_a_drug_never_interacts_with_itself(known):
    assert interactions_between(known, [key(WARFARIN), key(WARFARIN)]) == []
    assert known.of(key(WARFARIN), key(WARFARIN)) == ()
    assert interactions_between(known, [key(WARFARIN), key(CITALOPRAM), "ATC:B01A"]) == []
    assert len(known.across([key(WARFARIN), key(ASPIRIN)], [key(ASPIRIN), key(WARFARIN)])) == 2
    assert not known.matrix([key(d) for d in DRUGS]).diagonal().any()


def test_salts_of_one_drug_do_not_interact_with_each_other(database, known):
    with database.connect() as connection:
        from kb.query.read import drugs

        listed = drugs(connection)
        ids = dict(zip(listed.names, listed.ids.tolist(), strict=True))
        folded = read_interactions(connection, {ids["Aspirin"]: ids["Warfarin"]})
    assert {s.source for s in folded.statements} == {"mine"}


def test_classes_interact_by_two_different_drugs_only(database, known):
    """Aspirin is in B01A and in N02B, as warfarin is in B01A: 'aspirin with aspirin' must not flag the pair."""
    medications = ("ATC:B01A", "ATC:N02B", "ATC:N02A", "ATC:N06A")
    knowledge = read_knowledge(database, medications, vectors=False)
    matrix = knowledge.interactions.matrix
    assert {(a, b) for a, b in np.argwhere(np.triu(matrix)).tolist()} == {(0, 1), (2, 3)}
    # one of the two drugs of B01A is listed with the only drug of N02B
    assert knowledge.interactions.by_drug[0, 1] == pytest.approx(0.5)
    assert knowledge.interactions.by_drug[2, 3] == pytest.approx(1.0)
    for a, b in np.argwhere(matrix).tolist():
        assert knowledge.drug_interactions.across(knowledge.ingredients[a], knowledge.ingredients[b])


def test_the_same_drug_under_two_labels_is_no_interaction():
    listed = np.zeros((2, 2), bool)
    listed[0, 1] = listed[1, 0] = True
    same = rolled_up(listed, np.array([[1.0, 0.0], [1.0, 0.0]]), "x")
    assert not same.matrix.any()
    with pytest.raises(DataError, match="expected"):
        from recsys.orders.interactions import Interactions

        Interactions(np.zeros((2, 2), bool), "x", np.zeros((3, 3)))


def test_a_matrix_of_another_vocabulary_is_refused_and_one_of_the_same_is_put_in_order():
    matrix = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    put = supplied(matrix, ["ATC:A", "ATC:B", "ATC:C"], ["ATC:C", "ATC:B", "ATC:A"], "mine.csv")
    assert np.argwhere(put.matrix).tolist() == [[1, 2], [2, 1]]
    with pytest.raises(DataError, match=r"another vocabulary: it lacks 1 of 2 medications, ATC:D") as refused:
        supplied(matrix, ["ATC:A", "ATC:B", "ATC:C"], ["ATC:A", "ATC:D"], "mine.csv")
    assert "knowledge base" in refused.value.hint
    with pytest.raises(DataError, match="3 rows for 2"):
        supplied(matrix, ["ATC:A", "ATC:A", "ATC:C"], ["ATC:A"], "mine.csv")


@pytest.mark.parametrize(("text", "said"), [
    (",A,B\nA,0,1\nB,1,0\n", ""), ("\ufeff;A;B\n", "no square"), (",A,B\nA,0,1\n", "no square"), (",A,B\nB,0,1\nA,1,0\n", "no square"),
    (",A,B\nA,0,1\nB,1\n", "no square"), (",A,B\nA,0,2\nB,2,0\n", "line 2"), (",A,B\nA,0,1\nB,0,0\n", "symmetric"),
    (",A,B\nA,1,1\nB,1,0\n", "symmetric"), ("", "no square")])
def test_a_matrix_in_a_file_is_a_square_of_zeros_and_ones(tmp_path, text, said):
    path = tmp_path / "ddi.csv"
    path.write_text(text)
    if said:
        with pytest.raises(DataError, match=said):
            read_matrix(path)
        return
    matrix, codes = read_matrix(path)
    given, rebuilt = Interactions(matrix, "ddi.csv"), Interactions(np.zeros((2, 2), bool), "made")
    assert codes == ("A", "B") and compared(given, rebuilt)["only in it"] == 1 == compared(rebuilt, given)["only rebuilt"]
    with pytest.raises(UsageError, match="a folder"):
        read_matrix(tmp_path)


def test_grades_are_known_words_or_unknown():
    assert grade("Critical", "NDF-RT") == ("high", "Critical")
    assert grade("", "ONC-NonInteruptive")[0] == "low" and grade("", "mine") == ("unknown", "")
    assert DrugInteractions().between(["a", "b"]) == [] and DrugInteractions().sources == ""
