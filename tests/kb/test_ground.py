"""``mkmed doctor``, ``mkmed status`` and ``mkmed db``: what they say of a fresh, a good and a broken installation."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

import cli
from kb import doctor
from kb.db import space
from kb.db.server import Server
from kb.doctor import Health, examine
from kb.errors import ConfigError, DiskFull
from kb.query import status
from kb.settings import load_settings

Usage = namedtuple("Usage", "total used free")


def verdicts() -> dict[str, doctor.Finding]:
    return {check.name: check for check in examine(load_settings())}


def test_doctor_is_content_with_a_good_installation(database_environment: Engine, capsys, monkeypatch) -> None:
    monkeypatch.setenv("MKMED_CONTACT", "me@example.org")
    assert cli.run(["doctor", "--format", "json"]) == 0
    checks = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"python", "packages", "disk", "database", "pgvector", "migrations", "pretrained weights", "gpu",
            "contact"} <= set(checks)
    assert not [row for row in checks.values() if row["verdict"] == "✗"]
    assert "external" in checks["database"]["found"] and checks["contact"]["found"] == "me@example.org"


def test_doctor_names_a_remedy_for_every_fault(database_environment: Engine, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MKMED_DATABASE_URL", "postgresql://u@127.0.0.1:1/x")
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy<1", "no-such-package>=2", 'odd; extra == "dev"'])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 10, 5 << 20))
    assert cli.run(["doctor"]) == 1
    capsys.readouterr()
    found = verdicts()
    bad = [check for check in found.values() if check.verdict is Health.bad]
    assert {check.name for check in bad} == {"packages", "disk", "database"}
    assert all(check.remedy for check in found.values() if check.verdict is not Health.good)
    assert "numpy" in found["packages"].found and "no-such-package is missing" in found["packages"].found


def test_doctor_sees_missing_migrations_and_an_old_pgvector(database_environment: Engine, monkeypatch) -> None:
    monkeypatch.setattr("kb.db.migrate.head", lambda: "9999")
    monkeypatch.setattr("kb.db.pgvector.pgvector_version", lambda _: (0, 8, 1))
    found = verdicts()
    assert found["migrations"].verdict is Health.bad and found["migrations"].remedy == "mkmed db upgrade"
    assert found["pgvector"].verdict is Health.bad and "0.8.4" in found["pgvector"].remedy


def test_doctor_notes_missing_weights_and_a_gpu_that_torch_cannot_use(monkeypatch, tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    settings = load_settings()
    (gpu,) = doctor.check_gpu(settings)
    (weights,) = doctor.check_weights(settings)
    assert gpu.verdict is Health.note and "H100" in gpu.found and gpu.remedy
    assert weights.verdict is Health.note and "text" in weights.found and "pretrained" in weights.remedy


def test_status_before_the_first_start_makes_nothing(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setenv("MKMED_HOME", str(tmp_path / "fresh"))
    assert cli.run(["status"]) == 0
    assert "mkmed db init" in capsys.readouterr().out
    assert not (tmp_path / "fresh").exists()


def test_status_counts(database_environment: Engine, capsys) -> None:
    with database_environment.begin() as connection:
        for statement in (
            "INSERT INTO licence (id, title, share) VALUES ('CC0', 'CC0', 'open')",
            "INSERT INTO source (name, title, url, origin, licence_id) VALUES ('s', 'S', 'u', 'user', 'CC0')",
            "INSERT INTO run (id, stage, status, version, host, pid, finished_at) VALUES (gen_random_uuid(), 'ingest',"
            " 'complete', '0', 'h', 1, now())",
            "INSERT INTO drug (identity, name, kind, run_id) SELECT 'x:' || n, 'd', 'unknown', id"
            " FROM run, generate_series(1, 3) n",
            "INSERT INTO cell (drug_id, modality, source, state, last_error, run_id)"
            " SELECT d.id, 'image', 's', 'failed', 'timeout', d.run_id FROM drug d",
        ):
            connection.execute(text(statement))
    assert cli.run(["status", "--format", "json"]) == 0
    stock = json.loads(capsys.readouterr().out)
    assert stock["figures"]["drugs"] == 3 and stock["figures"]["failed cells"] == 3
    assert stock["buckets"] == [{"modalities": "none", "drugs": 3}]
    assert stock["sources"][0]["other"] == 3 and stock["runs"][0]["status"] == "complete"
    for form in ("table", "csv"):
        assert cli.run(["status", "--format", form]) == 0
        assert "failed cells" in capsys.readouterr().out
    assert len(status.take_stock(load_settings()).runs) == 1


def test_url_is_bare_and_usable_by_psql(database_environment: Engine, capsys) -> None:
    assert cli.run(["db", "url"]) == 0
    url = capsys.readouterr().out.strip()
    assert url.startswith("postgresql://") and "psycopg2" not in url
    from kb.db.binaries import packaged

    answer = subprocess.run([packaged() / "bin" / "psql", url, "-Atc", "SELECT 41 + 1"], capture_output=True, text=True)
    assert answer.stdout == "42\n"


def test_psql_gets_the_rest_of_the_line_and_our_search_path(database_environment: Engine, capfd) -> None:
    assert cli.run(["db", "psql", "-At", "-c", "SHOW search_path", "-c", "SELECT count(*) FROM bucket WHERE false"]) == 0
    assert capfd.readouterr().out == "mkmed,ext,public\n0\n"
    assert cli.run(["db", "psql", "-c", "SELECT nonsense"]) == 1


def test_start_refuses_to_start_somebody_elses_server(database_environment: Engine, capsys) -> None:
    assert cli.run(["db", "start"]) == 2
    assert "MKMED_DATABASE_URL" in capsys.readouterr().err
    assert cli.run(["db", "roles", "--print"]) == 0
    assert "CREATE ROLE" in capsys.readouterr().out


@pytest.mark.slow
def test_embedded_life_from_init_to_stop(monkeypatch, capsys) -> None:
    import tempfile

    home = Path(tempfile.mkdtemp(prefix="mkg-", dir="/tmp"))
    home.chmod(0o711)
    monkeypatch.setenv("MKMED_HOME", str(home))
    try:
        assert cli.run(["db", "init"]) == 0
        assert "empty to revision" in capsys.readouterr().err
        assert cli.run(["db", "upgrade"]) == 0
        assert "up to date" in capsys.readouterr().err
        assert cli.run(["db", "start"]) == 0
        assert cli.run(["-q", "status"]) == 0
        assert "embedded" in capsys.readouterr().out
        assert (home / "postgres" / "ballast").exists()
        assert cli.run(["db", "stop"]) == 0
        assert "stopped" in capsys.readouterr().err
        assert Server(home).running() is None
    finally:
        Server(home).stop(force=True)
        shutil.rmtree(home)


def test_space_is_asked_for_twice_over(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 100 << 20))
    space.require_space(tmp_path / "not" / "yet", 50 << 20)
    with pytest.raises(DiskFull, match=r"102 MiB are needed.*100 MiB are free"):
        space.require_space(tmp_path, 51 << 20)


def test_reserve_takes_an_eighth_at_most_and_is_given_up_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 16 << 20))
    space.lay_ballast(tmp_path)
    path = tmp_path / "ballast"
    assert path.stat().st_size == 2 << 20 and path.stat().st_blocks * 512 >= 2 << 20, "no hole in the file"
    assert space.drop_ballast(tmp_path) == 2 << 20 and space.drop_ballast(tmp_path) == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1 << 20))
    space.lay_ballast(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize(("content", "message", "hint"), [
    ("workers = \n", "is not TOML: Invalid value", "name = value"),
    ("wrokers = 2\n", "'wrokers', which is no setting", "did you mean workers?"),
    ("nonsense = 2\n", "'nonsense', which is no setting", "pubchem_url"),
    ("workers = 0\n", "setting 'workers' is wrong", "config.toml"),
])
def test_a_mistake_in_the_file_is_told(tmp_path, monkeypatch, content, message, hint):
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings()
    assert hint in str(caught.value.hint)


def test_settings_come_from_the_file_and_the_environment_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text("workers = 3\nrequests_per_second = 2.5\n")
    monkeypatch.setenv("MKMED_REQUESTS_PER_SECOND", "1.5")
    settings = load_settings()
    assert (settings.workers, settings.requests_per_second) == (3, 1.5)
