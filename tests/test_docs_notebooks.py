"""The notebooks run from their first cell to their last on a small knowledge base, and are kept as a run left them."""

import ast
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("nbclient", reason="the extra docs is not installed")

from tests.handbook import library, shell
from tests.handbook.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import generate_notebooks

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SETUP = f"""
mkmed kb ingest --source corpus --limit 40
mkmed kb ingest --source corpus --ids names.txt
mkmed kb ingest --source rdkit --modality property --modality image
mkmed embed pretrain {library.SMALL}
mkmed recsys prepare --ehr eicu --root eicu --min-visits 1 --name eicu
mkmed recsys train --cohort eicu --set epochs=1 --set resamples=50
"""
WORDS = {"recommend_and_explain": "Antithrombotic", "search_and_encode": "rests_on", "knowledge_base": "Metformin", "sql": "because"}
"""Something that each must have answered."""


@pytest.fixture(scope="module")
def environment(database):
    """A shell's environment over a small knowledge base, vectors, the open eICU demo and a recommender."""
    from kb.db.address import bare

    folder = Path(tempfile.mkdtemp(prefix="mkn-", dir="/tmp"))
    folder.chmod(0o711)
    (folder / "names.txt").write_text("\n".join([*library.NAMES, "aspirin", "acetaminophen", "heparin", "metoprolol"]))
    (folder / "eicu").symlink_to(ROOT / "mkmed" / "demo" / "data" / "ehr_eicu_demo")
    with shell.opened(folder, (), MKMED_HOME=str(folder / "home"), MKMED_DATABASE_URL=bare(database.url), MKMED_WORKERS="1") as opened:
        done = opened.run(SETUP)
        assert done.returncode == 0, done.stderr[-3000:]
        yield opened.environment
    shutil.rmtree(folder)


def code(book):
    return [cell for cell in book["cells"] if cell["cell_type"] == "code"]


def answered(book):
    return json.dumps([cell["outputs"] for cell in code(book)])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(environment, path):
    """Every cell, in order; every cell that shows something shows something here, too."""
    made = generate_notebooks.execute(path, environment)
    kept = json.loads(path.read_text())
    assert [bool(cell["outputs"]) for cell in code(made)] == [bool(cell["outputs"]) for cell in code(kept)]
    assert WORDS[path.stem] in answered(made)


def test_a_cell_that_fails_is_noticed(environment, tmp_path):
    book = json.loads(NOTEBOOKS[0].read_text())
    book["cells"] = [*book["cells"][:2], {**code(book)[0], "id": "wrong", "source": "kb.drugs('nonsense')"}]
    (tmp_path / "wrong.ipynb").write_text(json.dumps(book))
    with pytest.raises(Exception, match="no drug 'nonsense'"):
        generate_notebooks.execute(tmp_path / "wrong.ipynb", environment)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_small_complete_and_of_no_machine(path):
    text = path.read_text()
    book = json.loads(text)
    assert [cell["execution_count"] for cell in code(book)] == list(range(1, len(code(book)) + 1)), "docs/generate_notebooks.py"
    assert len(text) < 200_000 and not re.search(r'/(home|root|tmp|work|var)/\w', text)
    assert WORDS[path.stem] in answered(book) and '"output_type": "error"' not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_needs_what_is_public(path):
    program = "\n".join("".join(cell["source"]) for cell in code(json.loads(path.read_text())))
    names = {alias.name for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Import) for alias in node.names}
    assert names <= {"mkmed", "numpy", "pandas"}
    assert not [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.ImportFrom)]
    assert not re.findall(r"\._[a-z]\w*", program), "no private attribute"


def test_every_notebook_is_here():
    assert {path.stem for path in NOTEBOOKS} == set(WORDS)
