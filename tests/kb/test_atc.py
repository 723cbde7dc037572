"""ATC codes: every level with its ancestors, and the user's own table."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from kb.errors import UsageError
from kb.ingest.engine import Summary, ingest
from kb.ledger.verify import verify
from kb.query.read import atc, find_drug
from kb.settings import Settings
from kb.sources.contract import IngestOptions


def run(engine: Engine, source: str = "atc", **options: object) -> Summary:
    return ingest(engine, Settings(workers=1), source, IngestOptions(**options))  # type: ignore[arg-type]


@pytest.fixture
def two(fresh_database: Engine) -> Engine:
    run(fresh_database, "corpus", ids=("aspirin", "metformin"))
    return fresh_database


def test_every_code_has_its_ancestors_and_most_classes_a_name(two: Engine) -> None:
    with two.begin() as connection:
        metformin = find_drug(connection, "metformin")
        assert (metformin, "A10BA02") in atc(connection)
        line = connection.execute(
            text("SELECT code, level, parent FROM mkmed.atc_class WHERE 'A10BA02' LIKE code || '%' ORDER BY level")
        ).all()
        assert [tuple(row) for row in line] == [
            ("A", 1, None), ("A10", 2, "A"), ("A10B", 3, "A10"), ("A10BA", 4, "A10B"), ("A10BA02", 5, "A10BA")
        ]
        named = connection.execute(text("SELECT level, count(name)::float / count(*) share FROM mkmed.atc_class"
                                        " WHERE level < 5 GROUP BY 1")).all()
        assert len(named) == 4 and all(row.share > 0.9 for row in named)
        assert connection.scalar(text("SELECT count(*) FROM mkmed.identifier WHERE namespace = 'atc'")) > 1


def test_own_codes_and_names(two: Engine, tmp_path: Path) -> None:
    path = tmp_path / "atc.csv"
    path.write_text("ATC,Substance,Class\nC10AA05,metformin,\nC10AA,,Statins\nQQ,aspirin,\nA02BC01,nothing known,\nB01,,\n")
    summary = run(two, path=path, columns={"code": "ATC", "drug": "Substance", "name": "Class"})
    with two.begin() as connection:
        assert (find_drug(connection, "metformin"), "C10AA05") in atc(connection)
        reasons = {int(k.split(":")[2]) for k in connection.scalars(
            text("SELECT key FROM mkmed.lookup WHERE source = 'atc/atc' AND state = 'rejected'"))}
        assert [check for check in verify(connection) if check.broken] == []
    assert reasons == {4, 5, 6} and summary.counts["rejected"] == 3


def test_a_name_that_is_there_is_kept(two: Engine, tmp_path: Path) -> None:
    with two.begin() as connection:
        before = connection.scalar(text("SELECT name FROM mkmed.atc_class WHERE code = 'A10BA'"))
    path = tmp_path / "atc.csv"
    path.write_text("code,drug,name\nA10BA,,Something else\n")
    run(two, path=path)
    with two.begin() as connection:
        assert connection.scalar(text("SELECT name FROM mkmed.atc_class WHERE code = 'A10BA'")) == before


def test_a_table_without_drugs_and_names_is_refused(two: Engine, tmp_path: Path) -> None:
    path = tmp_path / "atc.csv"
    path.write_text("code\nA10BA02\n")
    with pytest.raises(UsageError, match="neither drugs nor class names"):
        run(two, path=path)
