"""Backup and restore as docs/operations.md has it, with PostgreSQL's own tools, on a filled knowledge base."""

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "kb"))

from facts import Hand, begin, small_batch
from sqlalchemy import create_engine, text

PAGE = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
COUNTED = ("drug", "drug_name", "identifier", "text", "cell", "artifact", "drug_record", "run")


def counts(engine):
    with engine.connect() as connection:
        return {name: connection.scalar(text(f"SELECT count(*) FROM mkmed.{name}")) for name in COUNTED}


def test_backup_and_restore(database_environment, tmp_path):
    from kb.ingest.write import write_batch

    with database_environment.begin() as connection:
        write_batch(connection, begin(connection), Hand.name, small_batch())
    script = next(block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "pg_dump" in block)
    target = database_environment.url.set(database="restored")
    shown = target.render_as_string(hide_password=False).replace("+psycopg2", "")
    script = re.sub(r"^TARGET=.*$", f"TARGET='{shown}'", script, flags=re.MULTILINE)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                                            "PYTHONPATH": str(Path(__file__).parent.parent)})
    try:
        assert done.returncode == 0, done.stderr
        restored = create_engine(target)
        assert counts(restored) == counts(database_environment)
        with restored.connect() as connection:
            assert connection.scalar(text("SELECT mkmed.find_drug('metformin')")) is not None
        restored.dispose()
    finally:
        with database_environment.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("DROP DATABASE IF EXISTS restored WITH (FORCE)")
