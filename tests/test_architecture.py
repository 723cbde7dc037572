"""The house rules that a machine can hold: one direction of imports, light entry points."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"kb": 0, "migrations": 0, "embed": 1, "recsys": 2, "mkmed": 3, "cli": 4}
"""Each room's storey: an import may go down or stay, never up. ``migrations`` may look at every schema."""
HEAVY = {"torch", "torch_geometric", "pykeen", "rdkit", "pandas", "matplotlib", "sklearn", "scipy", "transformers",
         "pyarrow", "PIL", "pubchempy"}


def sources() -> list[Path]:
    """Every Python file of the program."""
    found = [ROOT / "cli.py"]
    for room in ("kb", "embed", "recsys", "mkmed", "migrations"):
        found += [p for p in (ROOT / room).rglob("*.py") if "mkmed/demo/data" not in p.as_posix()]
    return sorted(found)


def module_name(path: Path) -> str:
    """The dotted name of a file of the program."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_typing_only(node: ast.AST) -> bool:
    """Whether a statement is ``if TYPE_CHECKING:``."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, *, everywhere: bool) -> Iterator[str]:
    """The modules that a file imports: at its top level, or anywhere in it; annotations' imports do not count."""
    def walk(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif is_typing_only(node):
                continue
            elif everywhere or isinstance(node, ast.If | ast.Try | ast.With):
                for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                    for child in getattr(node, field, []) if isinstance(getattr(node, field, []), list) else []:
                        yield from walk([child] if isinstance(child, ast.stmt) else child.body)

    yield from walk(ast.parse(path.read_text()).body)


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_never_go_up(path: Path) -> None:
    room = "cli" if module_name(path) == "mkmed.__main__" else module_name(path).partition(".")[0]
    for name in imports(path, everywhere=True):
        target = name.partition(".")[0]
        if target in ROOMS and room != "migrations":
            assert ROOMS[target] <= ROOMS[room], f"{module_name(path)} imports {name}"


@pytest.mark.parametrize("path", [p for p in sources() if module_name(p).startswith("kb")], ids=module_name)
def test_ground_floor_knows_no_tensors(path: Path) -> None:
    found = {name.partition(".")[0] for name in imports(path, everywhere=True)}
    assert not found & {"torch", "torch_geometric", "pykeen"}


def test_one_file_imports_ray_and_only_when_it_is_asked_for() -> None:
    """So the demo neither needs nor imports it."""
    found = {module_name(path) for path in sources()
             if "ray" in {name.partition(".")[0] for name in imports(path, everywhere=True)}}
    assert found == {"kb.compute.on_ray"}
    at_top = imports(ROOT / "kb" / "compute" / "on_ray.py", everywhere=False)
    assert "ray" not in {name.partition(".")[0] for name in at_top}


@pytest.mark.parametrize(
    "path", [p for p in sources() if p.name in ("cli.py", "commands.py", "__init__.py")], ids=module_name
)
def test_entry_points_import_nothing_heavy(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path, everywhere=False)} & HEAVY


def test_no_import_cycles() -> None:
    """Imports within functions count."""
    names = {module_name(path): path for path in sources()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        targets = set()
        for imported in imports(path, everywhere=True):
            module = imported if imported in names else imported.rpartition(".")[0]
            if module in names and module != name:
                targets.add(module)
        graph[name] = targets
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, "import cycle: " + " -> ".join((*trail[trail.index(name):], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        visit(name, ())


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_nothing_dangerous_or_nameless(path: Path) -> None:
    assert path.stem not in ("utils", "helpers", "misc", "common")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(("Manager", "Handler", "Helper")), node.name
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            error_only = {alias.name for alias in node.names} == {"UnpicklingError"}
            if module_name(path) == "embed.runs.torch_file":  # reads torch's own files, and refuses what is no tensor
                names -= {"pickle"}
            assert error_only or not names & {"pickle", "dill", "shelve"}, "pickles are not a data format"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec"), called
            for keyword in node.keywords:
                assert not (keyword.arg == "weights_only" and ast.unparse(keyword.value) != "True"), called
                assert not (keyword.arg == "shell" and ast.unparse(keyword.value) != "False"), called


def test_rules_can_fail(tmp_path: Path) -> None:
    """The walkers see what they are meant to see."""
    sample = tmp_path / "sample.py"
    sample.write_text("import a\nif True:\n    import b\nfrom typing import TYPE_CHECKING\n"
                      "if TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\n")
    assert set(imports(sample, everywhere=False)) == {"a", "b", "typing.TYPE_CHECKING"}
    assert set(imports(sample, everywhere=True)) == {"a", "b", "typing.TYPE_CHECKING", "d.e"}


SAME_MEANING = {
    "Batch": "the rows that go through a network together",
    "Dials": "the parameters of a generator", "World": "what a generator draws once", "make_world": "draws it",
    "generate": "a generator's cohort",
    "diagnosed": "an EHR format's key of a diagnosis", "ordered": "an EHR format's key of an order",
    "Recommender": "a trained recommender: the model, and what Python's users hold of its run",
    "Vectors": "a matrix of vectors with whose they are: of a run, and what Python's users hold of it",
    "Problem": "what is wrong, in words: in a row of a file, in a request",
    "main": "what a program starts with",
    "from_json": "a configuration from its JSON", "read_metrics": "the metrics of a run's epochs",
    "load_run": "what a run has made", "find_folder": "the folder of a run",
    "tanimoto": "the Tanimoto similarity of bits, one a byte or packed",
    "read": "what a module is about, from where it lies; called as module.read",
    "write": "a line, a page; called as module.write",
}
"""Names that several modules define for their own kind of one and the same thing."""


def definitions() -> dict[str, list[str]]:
    """The modules of each public class and function of the rooms; commands are called as what they call."""
    found: dict[str, list[str]] = {}
    for path in sources():
        room = module_name(path).partition(".")[0]
        if room in ("kb", "embed", "recsys", "mkmed") and not path.name.endswith("commands.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(module_name(path))
    return found


def test_no_two_classes_or_functions_share_a_name() -> None:
    shared = {name: where for name, where in definitions().items() if len(where) > 1}
    assert {name: where for name, where in shared.items() if name not in SAME_MEANING} == {}
    assert SAME_MEANING.keys() <= shared.keys(), "a name on the list is not shared any more"
