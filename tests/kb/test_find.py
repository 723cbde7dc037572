"""Search: words, likeness and substructures, against plain loops over the same drugs, and by a reader."""

from __future__ import annotations

import time

import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
from sqlalchemy import Engine, text

from kb.db.roles import create_roles
from kb.errors import DataError, UsageError
from kb.identity import fingerprints
from kb.identity.relations import relate
from kb.query import find
from tests.databases import roles_lock
from tests.few_drugs import DRUGS, fill

MEANT = text("SELECT w.wanted, d.* FROM unnest(CAST(:wanted AS text[])) w (wanted), mkmed.find_drugs(w.wanted) d ORDER BY 1, 2")


@pytest.fixture(scope="module")
def filled(database: Engine) -> Engine:
    """The few drugs."""
    fill(database)
    return database


def names(rows: list[dict[str, object]]) -> list[str]:
    return [str(row["name"]) for row in rows]


def test_words_in_names_and_texts(filled: Engine) -> None:
    with filled.connect() as connection:
        found = find.search_text(connection, "metformin")
        assert (found[0]["name"], found[0]["how"], found[0]["found"]) == ("Metformin", "name", "«Metformin»")
        assert names(find.search_text(connection, "metf")) == ["Metformin"]
        assert names(find.search_text(connection, "sodium"))[:2] == ["Sodium chloride", "Sodium salicylate"]
        lowering = find.search_text(connection, "lowering of glucose")
        assert set(names(lowering)) == {"Metformin", "Heparin"} and lowering[0]["how"] == "text"
        assert "«glucose»" in str(lowering[0]["found"]) and lowering[0]["provider"] == "Hand book"
        assert names(find.search_text(connection, "glucose -anticoagulant")) == ["Metformin"]
        assert names(find.search_text(connection, '"thins blood"')) == ["Aspirin"]
        assert find.search_text(connection, "hydrate") and len(find.search_text(connection, "hydrate", 3)) == 3
        assert find.search_text(connection, "the") == []  # a word that says nothing, and the name of nothing
        for strange in ("100%_\\", "a & | ! ( b", "' OR 1=1 --", "\U0001f48a" * 50):
            find.search_text(connection, strange)
        for nothing in ("", "  ", "a\0b"):
            with pytest.raises(UsageError):
                find.search_text(connection, nothing)
        with pytest.raises(UsageError):
            find.search_text(connection, "x", 0)


def test_likeness_is_tanimoto_of_morgan_bits(filled: Engine) -> None:
    generator = GetMorganGenerator(radius=2, fpSize=2048)
    asked = Chem.MolFromSmiles("OC(=O)c1ccccc1O")
    own = generator.GetFingerprint(asked)
    wanted = {name: DataStructs.TanimotoSimilarity(own, generator.GetFingerprint(Chem.MolFromSmiles(smiles)))
              for name, smiles in DRUGS.items() if smiles}
    found = find.similar(filled, "OC(=O)c1ccccc1O", 100)
    assert {row["name"]: pytest.approx(row["similarity"], abs=1e-6) for row in found} == wanted
    assert [row["similarity"] for row in found] == sorted((row["similarity"] for row in found), reverse=True)
    assert len(find.similar(filled, "OC(=O)c1ccccc1O", 2)) == 2
    assert {row["name"] for row in find.similar(filled, "OC(=O)c1ccccc1O", at_least=0.3)} == {
        name for name, value in wanted.items() if value >= 0.3}
    with pytest.raises(DataError):
        find.similar(filled, "no molecule")


def first_of(engine: Engine, smiles: str) -> tuple[object, object]:
    row = find.similar(engine, smiles, 1)[0]
    return row["name"], row["relation"]


def test_what_a_molecule_is_comes_first(filled: Engine) -> None:
    """The drug itself, then its salts and charged forms, however unlike their bits; the rest by likeness, each once."""
    with filled.begin() as connection:
        relate(connection)
    assert first_of(filled, "CN(C)C(N)=NC(=N)N") == ("Metformin", "identical")  # written as another tautomer
    assert first_of(filled, "CC(=O)Oc1ccccc1C(=O)[O-]") == ("Aspirin", "parent")
    assert first_of(filled, "CC(=O)Oc1ccccc1C(=O)O.[Ca+2]") == ("Aspirin", "parent")
    assert first_of(filled, "OC(=O)c1ccccc1O") == ("Sodium salicylate", "parent")
    assert first_of(filled, "c1ccccc1C") == ("Benzene", "")
    found = find.similar(filled, "[Cl-].CN(C)C(=N)NC(N)=[NH2+]", 100)
    assert [row["relation"] for row in found] == ["parent"] + [""] * 6 and len({row["drug_id"] for row in found}) == 7
    assert names(find.similar(filled, "CC(=O)Oc1ccccc1C(=O)[O-]", at_least=0.999)) == ["Aspirin"]


def test_a_tautomer_that_inchi_tells_apart_is_found_by_its_formula(filled: Engine) -> None:
    """Acetylacetone is asked for by its enol, which InChI and the bits take for another substance."""
    with filled.begin() as connection:
        connection.execute(text("UPDATE mkmed.drug SET smiles = 'CC(=O)CC(C)=O', formula = 'C5H8O2',"
                                " inchikey = 'YRKCREAYFQTBPV-UHFFFAOYSA-N' WHERE name = 'Benzene'"))
    try:
        assert Chem.MolToInchiKey(Chem.MolFromSmiles("CC(O)=CC(C)=O"))[:14] != "YRKCREAYFQTBPV"
        assert first_of(filled, "CC(O)=CC(C)=O") == ("Benzene", "parent")
        assert first_of(filled, "CCC(=O)C(C)=O") == ("Benzene", "")  # the same atoms, bound otherwise
    finally:
        with filled.begin() as connection:
            connection.execute(text("UPDATE mkmed.drug SET smiles = 'c1ccccc1', formula = NULL,"
                                    " inchikey = 'UHOVQNZJYSORNB-UHFFFAOYSA-N' WHERE name = 'Benzene'"))


@pytest.mark.parametrize("smarts", ["c1ccccc1", "C(=O)[N;H2]", "[Na+]", "C(=O)[O;H1,-]", "[#7]", "N~C~N", "*", "[!#6;!#1]"])
def test_a_substructure_is_what_rdkit_says(filled: Engine, smarts: str) -> None:
    """The screening loses nothing: the same answer as a loop over every structure."""
    pattern = Chem.MolFromSmarts(smarts)
    wanted = [name for name, smiles in DRUGS.items() if smiles and Chem.MolFromSmiles(smiles).HasSubstructMatch(pattern)]
    found = find.substructure(filled, smarts)
    assert sorted(names(found)) == sorted(wanted)
    for row in found:
        assert len(row["atoms"]) == pattern.GetNumAtoms()
    assert len(find.substructure(filled, smarts, 1)) == 1


def test_what_is_no_smarts_is_refused(filled: Engine) -> None:
    for smarts in ("", "((", "C" * 3000, "c1ccccc"):
        with pytest.raises(DataError):
            find.substructure(filled, smarts)


def test_a_changed_structure_gets_new_bits(filled: Engine) -> None:
    find.bring_up_to_date(filled)
    assert find.bring_up_to_date(filled) == 0
    try:
        with filled.begin() as connection:
            connection.execute(text("UPDATE mkmed.drug SET smiles = 'CCO' WHERE name = 'Benzene'"))
            assert "Benzene" not in connection.scalars(text("SELECT name FROM mkmed.fingerprints")).all()
        assert names(find.similar(filled, "OCC", 1)) == ["Benzene"]
    finally:
        with filled.begin() as connection:
            connection.execute(text("UPDATE mkmed.drug SET smiles = 'c1ccccc1' WHERE name = 'Benzene'"))


def _uses_the_index(database: Engine) -> bool:
    with database.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.scalars(text("EXPLAIN SELECT drug_id FROM mkmed.fingerprint ORDER BY morgan <%> CAST(:b AS bit(2048))"
                                       " LIMIT 2"), {"b": "0" * 2047 + "1"}).all()
    return any("ix_fingerprint_morgan" in line for line in plan)


@pytest.mark.parametrize("read_by_another", [False, True])
def test_many_structures_get_an_index_that_is_used(filled: Engine, monkeypatch: pytest.MonkeyPatch,
                                                   read_by_another: bool) -> None:
    """Also while another connection still reads what was before: then once every transaction of that time has ended."""
    monkeypatch.setattr(fingerprints, "INDEX_ABOVE", 3)
    with filled.connect() as reader:
        if read_by_another:
            reader.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            reader.execute(text("SELECT count(*) FROM mkmed.fingerprint"))
        with filled.begin() as connection:
            connection.execute(text("UPDATE mkmed.fingerprint SET morgan = ~morgan"))
        with filled.begin() as connection:
            connection.execute(text("DELETE FROM mkmed.fingerprint"))
            assert fingerprints.renew(connection) == 7
        until = time.monotonic() + 60  # other tests' transactions on this server are waited for, too
        while not (used := _uses_the_index(filled)) and time.monotonic() < until:
            time.sleep(0.2)
        assert used
    with filled.begin() as connection:
        connection.execute(text("DROP INDEX mkmed.ix_fingerprint_morgan"))


def test_a_reader_searches_and_writes_nothing(filled: Engine) -> None:
    with roles_lock():
        create_roles(filled)
        try:
            with filled.connect() as connection:
                asked = {"wanted": [*DRUGS, *(f"{name} hydrate 50%" for name in DRUGS), "nothing",
                                    *connection.scalars(text("SELECT inchikey FROM mkmed.drugs WHERE inchikey IS NOT NULL"))]}
                by_tables = connection.execute(MEANT, asked).all()
                assert {row.wanted for row in by_tables} == {*asked["wanted"]} - {"nothing"}
                connection.execute(text("SET ROLE mkmed_reader"))
                assert connection.execute(MEANT, asked).all() == by_tables
                assert not connection.scalar(find.MAY_WRITE)
                assert names(find.search_text(connection, "glucose"))
                assert connection.scalar(text("SELECT count(*) FROM mkmed.similar_structures('aspirin', 3)")) == 3
                connection.execute(text("RESET ROLE; GRANT mkmed_nc TO mkmed_reader; SET ROLE mkmed_reader"))
                assert connection.scalar(text("SELECT mkmed.may_read_closed()"))
                assert connection.execute(MEANT, asked).all() == by_tables
                assert names(find.search_text(connection, "glucose"))
                assert connection.scalar(text("SELECT count(*) FROM mkmed.similar_structures('aspirin', 3)")) == 3
        finally:
            with filled.begin() as connection:
                for role in ("mkmed_ingest", "mkmed_reader", "mkmed_nc"):
                    connection.execute(text(f"DROP OWNED BY {role}"))
