"""The source ``drkg``: what it reads, refuses, checks, downloads and says, from the file to the ledger."""

from __future__ import annotations

import gzip
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slow_server import address, serving
from sqlalchemy import Engine, text

from kb.errors import ContractViolation, SourceError, UsageError
from kb.graph.load import encode_rows
from kb.ingest.engine import Summary, ingest, plan
from kb.settings import Settings
from kb.sources.contract import IngestOptions
from kb.sources.drkg import contract as drkg_contract
from kb.sources.drkg import read as drkg_read
from kb.sources.drkg.read import describe_relations, known_relations, read_triples
from kb.sources.drkg.source import Drkg

ROWS = [
    ("Gene::2157", "bioarx::HumGenHumGen:Gene:Gene", "Gene::2157"),
    ("Gene::348", "DGIDB::OTHER::Gene:Compound", "Compound::DB00635"),
    ("Gene::348", "DGIDB::OTHER::Gene:Compound", "Compound::DB00635"),
    ("Gene::5595;5594", "Hetionet::Gr>G::Gene:Gene", "Gene::NaN"),
    ("Compound::DB00635", 'a "quoted relation', "Side Effect::C0000"),
    ("Gene::", "GNBR::L::Gene:Disease", "Disease::MESH:D1"),
]
CONTENT = "".join("\t".join(row) + "\n" for row in ROWS).encode()


def tar_of(*members: tuple[tarfile.TarInfo | str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, data in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("drkg.tsv", CONTENT),
        ("drkg.tsv.gz", gzip.compress(CONTENT)),
        ("misnamed.tsv", gzip.compress(CONTENT)),
        ("drkg.tar.gz", tar_of(("./embed/x.npy", b"y" * 99_999), ("./drkg.tsv", CONTENT))),
        ("drkg.tsv", CONTENT.replace(b"\n", b"\r\n")),
    ],
)
def test_reads_every_packing_alike(tmp_path: Path, name: str, packed: bytes) -> None:
    (tmp_path / name).write_bytes(packed)
    coded, expected = read_triples(tmp_path / name), encode_rows(ROWS)
    assert coded.entities == expected.entities and coded.relation_names == expected.relation_names
    assert coded.counts == expected.counts and coded.rows_of == expected.rows_of
    assert coded.heads.tolist() == expected.heads.tolist() and coded.tails.tolist() == expected.tails.tolist()
    assert "Gene::NaN" in coded.entities and 'a "quoted relation' in coded.relation_names


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("drkg.tsv", b"", "is empty"),
        ("drkg.tsv", b"Gene::1\tr\tGene::2\nGene::1\tr\n", "Expected 3 columns, got 2"),
        ("drkg.tsv", b"Gene::1\tr\tGene::\xff\xfe\n", "UTF8"),
        ("drkg.tsv.gz", gzip.compress(CONTENT * 9999)[:-1000], "damaged"),
        ("drkg.tar.gz", tar_of(("./drkg.tsv", CONTENT * 9999))[:-2000], "damaged"),
        ("drkg.tar.gz", tar_of(("./other.tsv", CONTENT)), "holds no file drkg.tsv"),
        ("drkg.tar.gz", tar_of((link("drkg.tsv", "/etc/passwd"), b"")), "holds no file drkg.tsv"),
    ],
)
def test_refuses_what_is_no_table_of_triples(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        read_triples(tmp_path / name)


def test_an_archive_never_writes_outside(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "drkg.tar.gz"
    path.write_bytes(tar_of(("../escaped.txt", b"x"), ("/tmp/escaped.txt", b"x"), ("../../drkg.tsv", CONTENT)))
    assert read_triples(path).counts.rows == len(ROWS)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "drkg.tar.gz"]


def test_a_bomb_stops_at_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drkg_read, "LIMIT", 1 << 20)
    path = tmp_path / "drkg.tsv.gz"
    path.write_bytes(gzip.compress(b"Gene::1\tr\tGene::2\n" * 1_000_000))
    with pytest.raises(SourceError, match="unpacks to more than"):
        read_triples(path)


def test_the_contract_adds_up_and_names_what_differs() -> None:
    assert sum(drkg_contract.PAIRS.values()) == drkg_contract.ROWS
    assert drkg_contract.KEPT == drkg_contract.ROWS - drkg_contract.EMPTY_IDS - 3
    known = known_relations()
    assert len(known) == drkg_contract.RELATIONS
    assert {(r.provider, drkg_contract.pair_of(r)) for r in known.values()} == set(drkg_contract.PAIRS)
    assert {t for r in known.values() for t in (r.head_type, r.tail_type)} == set(drkg_contract.ENTITIES)
    assert {r.licence for r in known.values()} < {licence.id for licence in Drkg.licences}
    checks = drkg_contract.compare_counts(encode_rows(ROWS), describe_relations(encode_rows(ROWS)))
    by_name = {check.what: check for check in checks}
    assert by_name["rows"].found == 6 and not by_name["rows"].passed
    assert by_name["largest degree"].found == 2 and by_name["self loops"].found == 1
    assert by_name["rows of DGIDB Compound–Gene"].found == 2
    assert by_name["entities of type Side Effect"].found == 1
    with pytest.raises(ContractViolation, match="rows: 6 instead of 5,874,261"):
        drkg_contract.require(checks)
    drkg_contract.require([replace(check, found=check.expected) for check in checks])


def settings(home: Path) -> Settings:
    return Settings(home=home)  # type: ignore[call-arg]


def run(engine: Engine, home: Path, **options: Any) -> Summary:
    return ingest(engine, settings(home), "drkg", IngestOptions(**options))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "drkg.tsv"
    file.write_bytes(CONTENT)
    return file


def test_a_part_needs_allow_subset_and_proves_no_absence(
    fresh_database: Engine, tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ContractViolation):
        run(fresh_database, tmp_path, path=path)
    with fresh_database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM mkmed.kg_entity")) == 0
    summary = run(fresh_database, tmp_path, path=path, allow_subset=True)
    assert {k: summary.counts[k] for k in ("read_rows", "read_duplicates", "read_empty_ids", "read_kept")} == {
        "read_rows": 6,
        "read_duplicates": 1,
        "read_empty_ids": 1,
        "read_kept": 4,
    }
    said = capsys.readouterr().err
    assert "4 distinct triples" in said and "DrugBank" in said
    with fresh_database.connect() as connection:
        rows = connection.execute(text("SELECT relation, provider, licence_id FROM mkmed.relations ORDER BY 1")).all()
        evidence = connection.scalar(text("SELECT evidence FROM mkmed.lookup WHERE key LIKE 'graph:%'"))
    assert {tuple(row)[1:] for row in rows} == {
        ('a "quoted relation', "LicenseRef-DRKG-unknown"),
        ("bioarx", "LicenseRef-DRKG-bibliography"),
        ("DGIDB", "LicenseRef-DGIdb"),
        ("Hetionet", "LicenseRef-Hetionet"),
    }
    assert '"complete": false' in str(evidence)


def test_again_changes_nothing_and_a_changed_database_is_healed(
    fresh_database: Engine, tmp_path: Path, path: Path
) -> None:
    run(fresh_database, tmp_path, path=path, allow_subset=True)
    tables = ("kg_triple", "kg_entity", "kg_relation", "kg_provenance", "kg_alias", "cell", "lookup", "artifact", "artifact_seen")

    def everything() -> list[Any]:
        with fresh_database.connect() as c:
            return [sorted(c.scalars(text(f"SELECT t::text FROM mkmed.{table} t"))) for table in tables]

    before = everything()
    assert run(fresh_database, tmp_path, path=path, allow_subset=True).counts.get("rows", 0) == 0
    assert everything() == before
    with fresh_database.begin() as connection:
        connection.execute(text("DELETE FROM mkmed.kg_triple WHERE head = tail"))
    assert run(fresh_database, tmp_path, path=path, allow_subset=True).counts["rows"] == 1
    assert everything()[0] == before[0]


def test_usage(fresh_database: Engine, tmp_path: Path, path: Path) -> None:
    for options in ({"limit": 3, "path": path}, {"ids": ("DB00945",), "path": path}, {}, {"path": tmp_path / "no"}):
        with pytest.raises(UsageError):
            run(fresh_database, tmp_path, **options)
    estimate = plan(fresh_database, settings(tmp_path), "drkg", IngestOptions(path=path))
    assert estimate.requests == 0 and estimate.bytes == len(CONTENT) and 1 <= estimate.keys <= 2 * len(ROWS)


def test_ingest_from_an_address(fresh_database: Engine, tmp_path: Path) -> None:
    with serving(tar_of(("drkg.tsv", CONTENT)), "cut") as server:
        summary = run(fresh_database, tmp_path, url=address(server), allow_subset=True)
    assert summary.counts["rows"] == 4 and summary.counts["requests"] == 1
    with fresh_database.connect() as connection:
        assert connection.scalar(text("SELECT url FROM mkmed.artifact")) == address(server)


def test_credentials_of_an_address_are_stored_nowhere(
    fresh_database: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tar_of(("drkg.tsv", CONTENT)), "plain") as server:
        url = address(server).replace("http://", "http://me:CANARY1@") + "?token=CANARY2&part=1"
        run(fresh_database, tmp_path, url=url, allow_subset=True)
    with fresh_database.connect() as connection:
        tables = connection.scalars(text("SELECT relname FROM pg_class WHERE relnamespace = 'mkmed'::regnamespace"
                                         " AND relkind IN ('r', 'v')")).all()
        kept = {t: str(connection.execute(text(f"SELECT t::text FROM mkmed.{t} t")).all()) for t in tables}
        stored = connection.scalar(text("SELECT url FROM mkmed.artifact"))
    assert [t for t, rows in kept.items() if "CANARY" in rows] == []
    assert stored == address(server) + "?token=***&part=1"
    assert "CANARY" not in capsys.readouterr().err
