"""Computed data: right, deterministic, marked as computed, and safe from molecules that would take for ever."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image
from sqlalchemy import Engine, text

from kb.compute.places import open_pool
from kb.compute.pool import Failure, PoolTask, run_here
from kb.errors import DataError, Incomplete, UsageError
from kb.ingest.engine import Summary, ingest, plan
from kb.ledger.verify import verify
from kb.modalities import Modality
from kb.query.names import find_drug
from kb.query.read import conformers, images, properties
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from kb.sources.rdkit.compute import IMAGE_SIZE, compute_properties, depict, embed, property_payload

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def run(engine: Engine, source: str = "rdkit", **options: object) -> Summary:
    return ingest(engine, Settings(workers=2), source, IngestOptions(**options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def few(database: Engine) -> Engine:
    run(database, "corpus", ids=("aspirin", "metformin", "warfarin", "Cetuximab", "diatrizoate"))
    run(database)
    return database


def test_properties_of_aspirin_are_those_of_the_books() -> None:
    found = compute_properties(ASPIRIN)
    assert found["mol_weight"] == pytest.approx(180.16, abs=0.01)
    assert found["exact_mass"] == pytest.approx(180.0423, abs=1e-4)
    assert found["tpsa"] == pytest.approx(63.6, abs=0.1)
    assert (found["hbond_donors"], found["heavy_atoms"], found["rings"], found["charge"]) == (1, 13, 1, 0)


def test_depiction_is_a_plain_png_of_the_stated_size() -> None:
    drawn = depict(ASPIRIN)
    picture = Image.open(io.BytesIO(drawn))
    picture.load()
    assert picture.size == (IMAGE_SIZE, IMAGE_SIZE) and 224 <= IMAGE_SIZE <= 300
    assert not picture.info, "metadata would make the bytes depend on the version"
    assert len(picture.convert("L").getcolors(256) or []) > 2, "an empty picture"


def test_everything_computed_is_deterministic() -> None:
    spelled = "OC(=O)c1ccccc1OC(C)=O"
    assert property_payload(ASPIRIN) == property_payload(spelled) == property_payload(ASPIRIN)
    assert depict(ASPIRIN) == depict(ASPIRIN)
    assert embed(ASPIRIN) == embed(ASPIRIN)


def test_conformer_has_hydrogens_depth_and_the_right_stereo() -> None:
    from rdkit import Chem

    smiles = "C[C@H](N)C(=O)O"
    found = embed(smiles)
    molecule = Chem.MolFromMolBlock(found.molblock, removeHs=False)
    assert molecule.GetNumAtoms() == 13 and found.heavy_atoms == 6 and "MMFF94" in found.method
    assert molecule.GetConformer().Is3D()
    Chem.AssignStereochemistryFrom3D(molecule)
    assert Chem.MolToSmiles(Chem.RemoveHs(molecule)) == Chem.MolToSmiles(Chem.MolFromSmiles(smiles))


def test_force_field_falls_back() -> None:
    assert "UFF" in embed("C[Hg]C").method or "not relaxed" in embed("C[Hg]C").method
    with pytest.raises(DataError, match="V2000"):
        embed("C" * 400)


def test_parallel_and_plain_path_agree() -> None:
    smiles = [ASPIRIN, "", "CN(C)C(=N)N=C(N)N", "C" * 2000, "[Na+].[Cl-]"] * 3
    task = PoolTask("kb.sources.rdkit.compute:depict")
    with open_pool("local", task, 2) as pool:
        parallel = dict(pool.map(smiles, share=4))
    assert parallel == dict(run_here(task, smiles))
    assert isinstance(parallel[1], Failure) and parallel[1].refused and "empty" in parallel[1].reason
    assert isinstance(parallel[3], Failure) and "limit" in parallel[3].reason


def test_ledger_says_what_was_computed_and_what_cannot_be(few: Engine) -> None:
    with few.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []
        cells = {
            (r.drug_id, r.modality): (r.state, r.evidence)
            for r in connection.execute(text("SELECT * FROM mkmed.cell WHERE source = 'rdkit'"))
        }
        aspirin, cetuximab = find_drug(connection, "aspirin"), find_drug(connection, "cetuximab")
        assert {cells[aspirin, m][0] for m in ("image", "property")} == {"present"}
        assert {cells[cetuximab, m] for m in ("image", "property", "structure")} == {("absent", "rule:no-structure")}
        assert all(picture.png.startswith(b"\x89PNG") for picture in images(connection))
        table = properties(connection)
        assert "qed" in table.names
        for block in conformers(connection):
            assert "M  END" in block.molblock
        origin = connection.scalar(text("SELECT origin FROM mkmed.source WHERE name = 'rdkit'"))
        assert origin == "computed"
        artifact = connection.execute(
            text("SELECT b.payload, a.url FROM mkmed.artifact a JOIN mkmed.property_set p ON p.artifact = a.id"
                 " JOIN mkmed.content b ON b.sha256 = a.content WHERE p.source = 'rdkit' AND p.drug_id = :i"), {"i": aspirin}
        ).one()
        assert json.loads(bytes(artifact.payload))["heavy_atoms"] == 13 and artifact.url == f"computed:{ASPIRIN}"


def test_a_conformer_is_computed_only_where_no_source_has_one(few: Engine) -> None:
    with few.begin() as connection:
        sources: dict[int, set[str]] = {}
        for row in connection.execute(text("SELECT drug_id, source FROM mkmed.conformer WHERE method NOT LIKE '%steps (UFF%'")):
            sources.setdefault(row.drug_id, set()).add(row.source)
        assert sources and all(len(found) == 1 for found in sources.values())


def test_a_second_run_changes_nothing(few: Engine) -> None:
    with few.begin() as connection:
        before = connection.execute(text("SELECT count(*), max(xmin::text::bigint) FROM mkmed.cell")).one()
    assert run(few).counts.get("rows", 0) == 0
    with few.begin() as connection:
        assert connection.execute(text("SELECT count(*), max(xmin::text::bigint) FROM mkmed.cell")).one() == before


def test_refresh_computes_again_and_ends(few: Engine) -> None:
    assert run(few, refresh_days=0.0, modalities=("property",)).counts["present"] == 4
    with few.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []


def test_two_processes_share_the_work(fresh_database: Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run(fresh_database, "corpus", limit=30)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: run(fresh_database, modalities=("property",)), range(2)))
    assert sum(summary.counts.get("present", 0) for summary in done) == 30
    with fresh_database.begin() as connection:
        assert [check for check in verify(connection) if check.broken] == []


def test_limit_and_modalities_and_late_structures(fresh_database: Engine) -> None:
    run(fresh_database, "corpus", limit=12)
    assert plan(fresh_database, Settings(workers=1), "rdkit", IngestOptions(modalities=("image",))).keys == 12
    assert run(fresh_database, limit=5, modalities=("image",)).counts["present"] == 5
    with fresh_database.begin() as connection:
        states = dict(
            connection.execute(text("SELECT state, count(*) FROM mkmed.cell WHERE source = 'rdkit' AND modality = 'image'"
                                    " GROUP BY 1")).all()
        )
        assert states == {"present": 5, "unknown": 7}
        assert [check for check in verify(connection) if check.broken] == []
        drug = connection.scalar(text("SELECT max(id) FROM mkmed.drug"))
        connection.execute(text("UPDATE mkmed.drug SET smiles = NULL WHERE id = :i"), {"i": drug})
    run(fresh_database, modalities=("property",))
    query = text("SELECT state, evidence FROM mkmed.cell WHERE source = 'rdkit' AND modality = 'property' AND drug_id = :i")
    with fresh_database.begin() as connection:
        assert connection.execute(query, {"i": drug}).one() == ("absent", "rule:no-structure")
        connection.execute(text("UPDATE mkmed.drug SET smiles = 'CCO' WHERE id = :i"), {"i": drug})
    run(fresh_database, modalities=("property",))
    with fresh_database.begin() as connection:
        assert connection.execute(query, {"i": drug}).one() == ("present", None)
    with pytest.raises(UsageError, match="text"):
        run(fresh_database, modalities=("text",))


def test_monstrous_structures_are_rejected_with_a_reason(fresh_database: Engine) -> None:
    run(fresh_database, "corpus", limit=3)
    with fresh_database.begin() as connection:
        ids = connection.scalars(text("SELECT id FROM mkmed.drug ORDER BY id")).all()
        for drug, smiles in zip(ids, ("C" * 100_000, "C1CC", ASPIRIN), strict=True):
            connection.execute(text("UPDATE mkmed.drug SET smiles = :s WHERE id = :i"), {"s": smiles, "i": drug})
    run(fresh_database, modalities=("image", "property"))
    with fresh_database.begin() as connection:
        found = connection.execute(
            text("SELECT state, last_error FROM mkmed.cell WHERE source = 'rdkit' AND modality = 'image' ORDER BY drug_id")
        ).all()
        assert [row.state for row in found] == ["rejected", "rejected", "present"]
        assert "limit" in found[0].last_error and "cannot read" in found[1].last_error


def test_failures_are_told_and_can_be_tried_again(fresh_database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from kb.sources.rdkit import source

    run(fresh_database, "corpus", limit=2)
    task = source.TASKS[Modality.image]
    broken = source.Computation(f"{__name__}:always_fails", task.batch, task.share, task.wall, 0.0, 0)
    monkeypatch.setitem(source.TASKS, Modality.image, broken)
    with pytest.raises(Incomplete, match=r"^2 cells"):
        run(fresh_database, modalities=("image",))
    monkeypatch.setitem(source.TASKS, Modality.image, task)
    assert run(fresh_database, modalities=("image",)).counts.get("rows", 0) == 0
    assert run(fresh_database, modalities=("image",), retry_failed=True).counts["present"] == 2


def always_fails(smiles: str) -> bytes:
    raise RuntimeError(f"no picture of {smiles}")
