"""What every test stands on: a real PostgreSQL, migrated once, and no way out to the network."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from itertools import count
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pytest

from tests.databases import HOME_VARIABLE, maintain

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from kb.db.server import Server

TEMPLATE = "mkmed_template"
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "shared_buffers": "64MB",
        "max_connections": "100", "autovacuum": "off"}
"""A test database may be lost in a crash; the torture suite starts its own server with everything on."""
_numbers = count()


def pytest_configure(config: pytest.Config) -> None:
    """Make the home of this session's server; workers of xdist inherit it by environment."""
    for name in [name for name in os.environ if name.startswith("MKMED_") and name != HOME_VARIABLE]:
        del os.environ[name]
    if HOME_VARIABLE not in os.environ:
        home = tempfile.mkdtemp(prefix="mkt-", dir="/tmp")
        Path(home).chmod(0o711)  # the server's account, when tests run as root, must pass
        os.environ[HOME_VARIABLE] = home
        config.stash[OWNER] = home
        _own_temporary_folder(Path(home))
    os.environ["MKMED_HOME"] = os.environ[HOME_VARIABLE]


OWNER = pytest.StashKey[str]()


def _own_temporary_folder(home: Path) -> None:
    """Put what the program and its libraries leave in the temporary folder where it goes with the session's home.

    pytest's own folders stay where they are, to be looked at after a failure.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = home / "tmp"
    folder.mkdir(mode=0o711)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def _remove_databases_apart(home: Path, temporary: Path) -> None:
    """Remove the databases of homes of this session that were closed to the server's account (root only)."""
    from kb.db import cluster, shared

    for root in cluster.SHARED_HOMES.iterdir() if cluster.SHARED_HOMES.is_dir() else ():
        served = shared.home_of(root)
        if served is not None and (served.is_relative_to(home) or served.is_relative_to(temporary)):
            from kb.db.server import Server

            Server(served).stop(force=True)
            shutil.rmtree(root)


LONGEST = ("test_docs_commands.py", "test_sources_contract.py", "test_corpus.py", "test_ehr_readers.py",
           "test_docs_notebooks.py", "test_pubchem.py", "test_canary.py", "test_screening.py", "test_artefact.py",
           "test_kill.py", "test_pubchem_faults.py", "test_public_cases.py", "test_interactions.py", "test_rdkit.py",
           "test_claims_machine.py", "test_demo.py", "test_run_tools.py")
"""Files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: workers take file after file, and none is to begin a long one when others end."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the session's server and remove its home, in the process that made them."""
    home = config.stash.get(OWNER, None)
    if home is None:
        return
    from kb.db.server import embedded

    embedded(Path(home)).stop(force=True)
    temporary = getattr(config, "_tmp_path_factory", None)
    if temporary is not None:
        _remove_databases_apart(Path(home), temporary.getbasetemp())
    # after multiprocessing's own folder in there, which goes at -100 and complains when it is gone
    Finalize(None, shutil.rmtree, (home, True), exitpriority=-200)
    os.environ.pop(HOME_VARIABLE, None)


@pytest.fixture(scope="session")
def server() -> Server:
    """The session's embedded server, started, with a migrated template database."""
    from kb.db import server as module
    from kb.db.engine import engine_for, ensure_database, url_of
    from kb.db.migrate import upgrade

    home = Path(os.environ[HOME_VARIABLE])
    embedded = module.embedded(home)
    with filelock.FileLock(home / "template.lock"):
        embedded._overrides = FAST
        path = embedded.start()
        ready = home / "template.ready"
        if not ready.exists():
            ensure_database(path, TEMPLATE)
            engine = engine_for(url_of(embedded, TEMPLATE))
            upgrade(engine)
            engine.dispose()
            ready.touch()
    return embedded


@pytest.fixture(scope="session")
def server_url(server: Server) -> str:
    """The bare URL of the session's server, on its maintenance database."""
    from kb.db.address import bare
    from kb.db.engine import url_of

    return bare(url_of(server, "postgres"))


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Engine]:
    """An Engine on a database of this test module's own, with every migration applied and no rows."""
    yield from _fresh(server)


@pytest.fixture
def fresh_database(server: Server) -> Iterator[Engine]:
    """An Engine on a database of this one test's own, with every migration applied and no rows."""
    yield from _fresh(server)


@pytest.fixture
def another_database(server: Server) -> Iterator[Engine]:
    """A second one, for what must come out the same twice."""
    yield from _fresh(server)


@pytest.fixture
def empty_database(server: Server) -> Iterator[Engine]:
    """An Engine on a database of this one test's own, without any migration."""
    yield from _fresh(server, "template0")


def _fresh(server: Server, template: str = TEMPLATE) -> Iterator[Engine]:
    from kb.db.engine import engine_for, url_of

    name = f"t_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{os.getpid()}_{next(_numbers)}"
    maintain(server, f'CREATE DATABASE "{name}" TEMPLATE {template}')
    engine = engine_for(url_of(server, name))
    yield engine
    engine.dispose()
    maintain(server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def connection(database: Engine) -> Iterator[Connection]:
    """A connection in a transaction that is committed when the test ends well."""
    with database.begin() as opened:
        yield opened


@pytest.fixture
def database_environment(database: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    """The module's database as ``MKMED_DATABASE_URL``, and an empty ``MKMED_HOME``: for commands and subprocesses."""
    from kb.db.address import bare

    monkeypatch.setenv("MKMED_DATABASE_URL", bare(database.url))
    monkeypatch.setenv("MKMED_HOME", str(tmp_path))
    return database


LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


def _local(address: Any) -> bool:
    return not isinstance(address, tuple) or str(address[0]).startswith(LOCAL)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Fail whatever opens a socket to another machine, or asks for its address."""
    connect, connect_ex, resolve = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(address: Any) -> None:
        if not _local(address):
            raise AssertionError(f"a test reached for the network: {address}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        refuse(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        refuse(address)
        return connect_ex(self, address)

    def guarded_resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        refuse((host or "localhost",))
        return resolve(host, *arguments, **options)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded_connect)
    patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    patch.setattr(socket, "getaddrinfo", guarded_resolve)
    yield
    patch.undo()
