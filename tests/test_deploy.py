"""Container, services and citation: read by parsers, and compared with what the program itself knows.

No container can be built here (that needs a daemon and a registry); docs/operations.md says what was checked by hand.
"""

import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
import yaml

from tests.handbook.pages import ROOT
from tests.test_docs_commands import parse

UNITS = sorted(path for path in (ROOT / "docs" / "deploy").iterdir() if path.suffix in (".service", ".timer"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KNOWN = {"FROM", "COPY", "ARG", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


def instructions():
    """(word, rest) of every instruction of the Dockerfile, continuations joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def test_the_dockerfile_copies_what_there_is_and_runs_as_nobody_special():
    found = instructions()
    assert {word for word, _ in found} <= KNOWN
    copied = [shlex.split(rest) for word, rest in found if word == "COPY" and "--from" not in rest]
    sources = {name for words in copied for name in words[:-1]}
    assert [name for name in sources if not (ROOT / name).exists()] == []
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {f"!{name}" for name in sources} == {line for line in ignored if line.startswith("!")}, ".dockerignore lets through what is copied"
    needed = {"cli.py", "pyproject.toml", *(entry.rstrip("*") for entry in ("kb*", "embed*", "recsys*", "migrations*", "mkmed*"))}
    assert needed <= sources
    last = max(i for i, (word, _) in enumerate(found) if word == "FROM")
    users = [rest for word, rest in found[last:] if word == "USER"]
    assert users and users[-1] not in ("root", "0")
    versions = [re.match(r"python:(3\.\d+)", rest)[1] for word, rest in found if word == "FROM"]
    assert all(version in ("3.11", "3.12", "3.13") for version in versions)
    extras = re.search(r'"/source\[([\w,]+)\]"', (ROOT / "Dockerfile").read_text())[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    command = [yaml.safe_load(rest) for word, rest in found if word == "CMD"][-1]
    parse(command)


@pytest.fixture
def compose():
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_the_services_wait_for_each_other_and_show_themselves_to_this_machine_only(compose):
    services = compose["services"]
    assert set(services) == {"db", "upgrade", "api"}
    assert services["upgrade"]["depends_on"]["db"]["condition"] == "service_healthy" and services["db"]["healthcheck"]
    assert services["api"]["depends_on"]["upgrade"]["condition"] == "service_completed_successfully"
    assert services["upgrade"]["restart"] == "no"
    assert "ports" not in services["db"] and all(port.startswith("127.0.0.1:") for port in services["api"]["ports"])
    assert re.fullmatch(r"pgvector/pgvector:[\d.]+-pg\d+", services["db"]["image"]), "a version, not latest"
    for name in ("upgrade", "api"):
        parse(services[name]["command"])
        assert services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"] and services[name]["build"] == "."
        assert services[name]["image"] == f"mkmed:{PROJECT['version']}"
    used = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert used == set(compose["volumes"])


def test_no_secret_is_written_down_and_none_may_be_forgotten(compose):
    from kb.settings import Settings
    from mkmed.serve.commands import TOKEN

    assert not re.search(r"PASSWORD: (?!\$\{)|TOKEN: (?!\$\{)", (ROOT / "compose.yaml").read_text())
    values = {**compose["services"]["db"]["environment"], **compose["services"]["api"]["environment"]}
    secrets = [value for value in values.values() if "${" in value]
    assert len(secrets) == 3 and all(":?" in value for value in secrets)
    settings = {f"MKMED_{name.upper()}" for name in Settings.model_fields} | {TOKEN, "MKMED_LOG_FILE", "MKMED_LOG_FORMAT"}
    assert {name for name in values if name.startswith("MKMED_")} <= settings


def commands():
    for path in (*UNITS, ROOT / "docs" / "operations.md"):
        for line in re.findall(r"(?:ExecStart=|\d [\d*]+ \* \* [\d*]+ +mkmed +)/opt/mkmed/bin/mkmed (.*)", path.read_text()):
            yield pytest.param(line, id=f"{path.name}: {line[:40]}")


@pytest.mark.parametrize("line", list(commands()))
def test_what_is_run_by_itself_is_spelt_rightly(line):
    parse(shlex.split(line))


def test_the_commands_are_found():
    assert len(list(commands())) >= 6
    with pytest.raises(Exception, match="nosuch"):
        parse(shlex.split("-q kb ingest --nosuch"))


def test_systemd_accepts_the_units(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/mkmed/bin/mkmed", "/bin/true"))
    done = subprocess.run([program, "verify", "--man=no", *(str(path) for path in tmp_path.iterdir())], capture_output=True, text=True)
    assert done.returncode == 0 and not re.search(r"Unknown|ignoring|Failed", done.stderr), done.stderr
    (tmp_path / UNITS[0].name).write_text("[Service]\nExecStart=relative\n")
    assert subprocess.run([program, "verify", "--man=no", str(tmp_path / UNITS[0].name)], capture_output=True).returncode


def test_the_citation_is_of_this_version():
    """The fields that CFF 1.2.0 demands; cffconvert --validate accepted the file."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(cited) and cited["cff-version"] == "1.2.0"
    assert str(cited["version"]) == PROJECT["version"] and cited["license"] == PROJECT["license"]
    assert all({"name"} <= set(author) or {"family-names"} <= set(author) for author in cited["authors"])
