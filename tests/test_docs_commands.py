"""Every command in the documentation is run, in a bash, as it stands on the page, but for what the two tables below say.

The tables are part of what is tested: an entry that matches nothing on any page fails.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import typer

import cli
from tests.databases import maintain, roles_lock
from tests.handbook import library, pages, shell
from tests.handbook.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import generate_cli
import generate_outputs

SMALL = library.SMALL
SMALLER = [
    # (what stands on the page, what is run instead, why)
    (r"(kb ingest --source corpus)(?! --)", r"\1 --limit 40", "14,023 drugs take 20 s"),
    (r"(embed pretrain[^\n;|]*)", rf"\1 {SMALL}", "the default trains for minutes"),
    (r"(embed ablate[^\n;|]*?) --seeds 5", rf"\1 --seeds 1 {SMALL}", "five seeds take an hour"),
    (r"(embed evaluate --splits) 5", rf"\1 2 --columns plain {SMALL}", "fifteen trainings"),
    (r"(recsys train[^\n;]*)", r"\1 --set epochs=1 --set resamples=50", "25 epochs on ten thousand patients"),
    (r"--seeds 3 --jobs \d", "--recommender popularity --recommender mkmed --set epochs=1", "eleven trainings, 25 epochs"),
    (r"(recsys score --in [^\n;|]*)", r"\1 --min-coverage 0.1", "the last run is of a synthetic cohort"),
    (r"(recsys recommend --visit [^\n;|]*)", r"\1 --min-coverage 0.1", "the last run is of a synthetic cohort"),
    (r"(recsys (?:prepare|reproduce) --ehr mimic[^\n;]*)", r"\1 --allow-subset --min-visits 1", "the open demo has 100 patients"),
    (r"(--ehr synthetic)", r"\1 --option patients=150", "10,000 patients"),
    (r"(ingest --source drkg [^\n;]*)", r"\1 --allow-subset", "two triples stand in for 5.9 million"),
    (r"(--source rdkit --modality structure)", r"\1 --limit 4", "conformers take a second each"),
    (r"--workers (8|16)", "--workers 1", "every further process imports RDKit, for seconds"),
    (r"(?<=embed drop )4f1c", "$(mkmed embed runs --format csv | awk -F, '/spare/ {print $1}' | tail -n 1)", "a run's id"),
    (r"(?<=embed publish )4f1c", "$FIRST", "a run's id"),
    (r"(?<=recsys compare )4f1c 77ab", "$OURS $POPULARITY", "two runs' ids"),
    (r"(?<=merges --undo )7", "$MERGE", "a merge's number"),
    (r"postgresql://(me|owner)@db.example.org/mkmed", "$DATABASE", "a server of one's own"),
    (r"recsys export mimic4", "recsys export mimic3", "the cohort that is prepared here"),
    (r"--root ~/eicu", "--root eicu", "the open demo"),
    (r"/elsewhere", "$HOME/elsewhere", "a folder outside the home"),
]
ELSEWHERE = [
    # (what stands on the page, who runs it)
    (r"^make (PYTHON=\S+ )?(demo|docs|test|slow|install|lint|torture|bench|fuzz|declared)", "make: continuous integration; the targets are checked here"),
    (r"^torchrun ", "several devices: two processes in tests/embed/test_distributed.py"),
    (r"^pip |^PIP_EXTRA", "needs a package index: tests/test_install.py builds the wheel and installs it"),
    (r"^python benchmarks/", "minutes to hours: `make bench`; the options are checked here"),
    (r"^python docs/generate_(cli|figures)", "tests/test_docs_pages.py compares its output"),
    (r"^python docs/generate_notebooks", "minutes in a demo's home; tests/test_docs_notebooks.py runs the same on a small one"),
    (r"^python docs/generate_outputs", "minutes of training; below, what it wrote is compared with what is printed"),
    (r"^python -m mkmed.demo.build.corpus SOURCES", "needs the published files, gigabytes: tests/test_demo_data.py checks sums"),
    (r"^mkmed recsys (curve|coldstart|transfer|ablate)", "dozens of trainings: tests/recsys/test_studies.py on small cohorts"),
    (r"^mkmed recsys dial", "dozens of trainings: tests/recsys/test_prescribing.py on a small knowledge base"),
    (r"^mkmed (embed|recsys) sweep", "many trainings: tests/recsys/test_tracking.py"),
    (r"^mkmed recsys rm", "a run's id: tests/recsys/test_tracking.py"),
    (r"^mkmed recsys outcomes", "needs a cohort that knows how visits ended: tests/recsys/test_outcomes.py"),
    (r"^mkmed recsys score --", "needs a run of the cohort's own: tests/recsys/test_score.py"),
    (r"^python -m pytest", "a test by itself"),
    (r"^mkmed report --visit", "the last run here is of a synthetic cohort: tests/recsys/test_canary.py, tests/test_demo.py"),
    (r"^mkmed serve( --port|$)", "answers until it is ended: tests/test_serve.py"),
    (r"^mkmed explorer --out", "tests/test_explorer.py writes the file and opens it in a browser"),
    (r"^mkmed demo", "the steps run in tests/test_demo.py on a small corpus"),
    (r"^BIN=|^\"\$BIN|^TARGET=", "tests/test_docs_operations.py runs the block and compares the rows"),
    (r"^mkmed embed pretrain --on ray", "a Ray cluster: tests/embed/test_places.py, test_on_cluster.py"),
    (r"^mkmed embed pretrain --resume", "tests/embed/test_pretrain.py stops a training and goes on with it"),
]
EMBEDDED = re.compile(r"db (init|start|stop)\b")
"""Blocks about the embedded server get one, in a home of their own."""


def names_a_command(block):
    """Whether running text only names a command or says it with an ellipsis, as in `mkmed embed drop`."""
    bare = tuple(block.text.split()[1:]) in {path for path, command in generate_cli.commands() if needs_more(command)}
    return block.inline and ("…" in block.text or bare)


def needs_more(command):
    """Whether a command cannot be called without arguments."""
    return any(parameter.required for parameter in command.params)


def elsewhere(line):
    """Who runs this line, when not this file."""
    return next((who for pattern, who in ELSEWHERE if re.search(pattern, line)), None)


def smaller(text):
    """What is run in place of what stands on the page."""
    for pattern, replacement, _ in SMALLER:
        text = re.sub(pattern, replacement, text)
    return text


def scripts():
    """What is run: every block without what others run and without lines that an earlier block has run already."""
    seen = set(library.SETUP.splitlines())
    for block in BLOCKS:
        lines = [smaller(line) for line in block.text.splitlines() if not elsewhere(line)]
        # A block that sets variables is a whole; so is one about a server of its own.
        whole = any(line.startswith("export") for line in lines) or EMBEDDED.search(block.text)
        new = [line for line in lines if whole or line not in seen]
        seen |= set(lines)
        if new and not names_a_command(block):
            yield pytest.param(block, "\n".join(new), id=str(block))


BLOCKS = pages.blocks("sh") + pages.inline()


@pytest.fixture(scope="module")
def plugs():
    """The plug-ins of docs/extending.md, as lines of the registries that the page names."""
    page = (ROOT / "docs" / "extending.md").read_text()
    found = re.findall(r'The line, in `(\w+)/(?:(\w+)/)?(?:__init__|registry)\.py`(?:, `(\w+)`)?: `"([\w-]+)": "([\w:]+)"`', page)
    registry = {"kb.sources": "SOURCES", "recsys.formats": "FORMATS", "recsys.registry": "RECOMMENDERS",
                "embed.registry": "TEXT_MODELS"}
    lines = []
    for room, folder, _, name, target in found:
        module = f"{room}.{folder or 'registry'}"
        lines.append(f"{module}:{registry[module]}:{name}={target}")
    assert len(lines) == 4
    return lines


@pytest.fixture(scope="module")
def filled(database, plugs):
    """A reader's shell over a filled knowledge base, with every file that the pages' commands read."""
    from kb.db.address import bare
    from tests.standin.server import StandIn

    folder = Path(tempfile.mkdtemp(prefix="mkd-", dir="/tmp"))
    folder.chmod(0o711)
    for name, code in re.findall(r"```python\n# file: (\w+)\.py\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL):
        (folder / f"{name}.py").write_text(code)
    with StandIn() as pubchem, shell.opened(folder, plugs, MKMED_HOME=str(folder / "filled"), MKMED_PUBCHEM_URL=pubchem.url,
                                            MKMED_DATABASE_URL=bare(database.url), MKMED_WORKERS="1") as opened:
        library.filled(opened)
        yield opened
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def embedded():
    """A home with an embedded server, made by the first block that starts one."""
    folder = Path(tempfile.mkdtemp(prefix="mkh-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder / "home"
    shutil.rmtree(folder)


@pytest.fixture
def reader(filled, database, server):
    """The same knowledge base and home for every block, whatever another block did to its own."""
    from kb.db.address import bare

    database.dispose()
    name = f"{database.url.database}_page"
    maintain(server, f'CREATE DATABASE "{name}" TEMPLATE "{database.url.database}"')
    shutil.copytree(filled.folder / "filled", filled.folder / "home", symlinks=True)
    url = bare(database.url.set(database=name))
    yield replace(filled, environment={**filled.environment, "MKMED_HOME": str(filled.folder / "home"),
                                       "MKMED_DATABASE_URL": url, "DATABASE": url})
    shutil.rmtree(filled.folder / "home", ignore_errors=True)
    maintain(server, f'DROP DATABASE "{name}" WITH (FORCE)')


def ids(reader):
    """The names that stand for runs and merges on the pages, as they are in this knowledge base."""
    asked = {"FIRST": "mkmed embed runs --format csv | awk -F, '/first/ {print $1}' | tail -n 1",
             "OURS": "mkmed recsys runs --format csv | awk -F, '/,mkmed,synthetic/ {print $1}' | tail -n 1",
             "POPULARITY": "mkmed recsys runs --format csv | awk -F, '/,popularity,synthetic/ {print $1}' | tail -n 1",
             "MERGE": "mkmed kb merges --format csv | sed -n 2p | cut -d, -f1"}
    return {name: reader.run(command).stdout.strip() for name, command in asked.items()}


@pytest.mark.parametrize(("block", "script"), list(scripts()))
def test_the_page_runs(reader, embedded, block, script):
    environment = ids(reader) if re.search(r"\$(FIRST|OURS|POPULARITY|MERGE)", script) else {}
    if "embed drop" in script:
        script = f"mkmed embed pretrain --no-publish --name spare {SMALL}\n{script}"
    if EMBEDDED.search(script):
        environment["MKMED_HOME"] = str(embedded)
        script = f"unset MKMED_DATABASE_URL; trap 'mkmed -q db stop --force' EXIT\n{script}"
    if block.page.startswith("mkmed/demo/data"):
        script = f"cd {(ROOT / block.page).parent}\n{script}"
    with roles_lock() if "db roles" in script else nullcontext():
        done = reader.run(script, **environment)
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    if "elsewhere" in script:
        (reader.folder / "elsewhere").rename(embedded)


SHOWN = [found for page in generate_outputs.PAGES for found in generate_outputs.SHOWN.findall(page.read_text())]


@pytest.mark.parametrize("block", [block for block in pages.blocks("sql") if block.page in ("docs/tutorial.md", "docs/tasks.md")], ids=str)
def test_a_query_of_the_tutorial_answers(reader, block):
    done = reader.run(generate_outputs.psql(block.text))
    assert done.returncode == 0 and "row" in done.stdout, done.stderr


def heading(table):
    """The names of the columns of a printed table: the line above its rule."""
    lines = [line.strip() for line in table.splitlines()]
    rule = next(i for i, line in enumerate(lines) if re.fullmatch(r"[─\-+]{5,}", line))
    return re.split(r"\s*\|\s*|\s{2,}", lines[rule - 1])


@pytest.mark.parametrize(("language", "text", "output"), SHOWN)
def test_a_page_shows_what_is_printed(reader, language, text, output):
    """The columns everywhere; the rows where they do not depend on a training."""
    script = smaller(text) if language == "sh" else generate_outputs.psql(text)
    done = reader.run(script, COLUMNS=generate_outputs.COLUMNS)
    assert done.returncode == 0, done.stderr
    assert heading(done.stdout) == heading(output)
    if "mkmed.availability" in text:
        assert generate_outputs.tidy(done.stdout) == output


def test_the_roles_of_the_database_page(reader):
    """The SQL that makes a reader, after the command above it."""
    (block,) = [block for block in pages.blocks("sql") if block.page == "docs/database.md"]
    statements = block.text.replace("alice", "alice_of_the_docs")
    with roles_lock():
        try:
            done = reader.run(f"mkmed db roles && psql -v ON_ERROR_STOP=1 \"$DATABASE\" <<'SQL'\n{statements}\nSQL")
        finally:
            reader.run('psql "$DATABASE" -c "DROP OWNED BY alice_of_the_docs; DROP ROLE alice_of_the_docs"')
    assert done.returncode == 0, done.stderr


def test_every_query_is_run_and_every_output_is_found():
    shown = [str(page.relative_to(ROOT)) for page in generate_outputs.PAGES]
    assert len(SHOWN) == len([block for block in pages.blocks("text") if block.page in shown]) >= 7
    assert {block.page for block in pages.blocks("sql")} == {
        "README.md", "docs/sql.md", "docs/database.md", "docs/tutorial.md", "docs/tasks.md"}


def calls(line):
    """The mkmed calls within a line, as lists of words."""
    words = shlex.split(line.replace(";", " ; "), comments=True)
    for start in [i for i, word in enumerate(words) if word == "mkmed" or words[i - 1 : i + 1] == ["-m", "cli"]]:
        rest = words[start + 1 :]
        yield rest[: next((i for i, word in enumerate(rest) if word in (";", ">", "|", "&&")), None)]


def parse(words):
    """Parse without running; raises what the program would raise on a wrong option."""
    command = typer.main.get_command(cli.app)
    context = command.make_context("mkmed", list(words), resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("line", sorted({line for block in BLOCKS for line in block.text.splitlines() if elsewhere(line)}))
def test_what_others_run_is_spelt_rightly(line):
    """Options and files of the lines that are not run here exist."""
    for words in calls(line):
        parse(words)
    if line.startswith("make "):
        done = subprocess.run(["make", "-n", "VENV=.venv", line.split()[1]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for script in re.findall(r"python ([\w/]+\.py)", line):
        text = (ROOT / script).read_text()
        assert [option for option in re.findall(r"--\w[\w-]*", line) if f'"{option}"' not in text] == []


def test_a_wrong_option_is_noticed():
    with pytest.raises(Exception, match="nosuch"):
        parse(["kb", "coverage", "--nosuch"])
    assert list(calls("torchrun -m cli embed runs; mkmed -q demo && mkmed db stop > x")) == [
        ["embed", "runs"], ["-q", "demo"], ["db", "stop"]]


def test_the_tables_have_no_dead_rows_and_nothing_is_lost():
    lines = [line for block in BLOCKS for line in block.text.splitlines()]
    dead = [pattern for pattern, *_ in (*SMALLER, *ELSEWHERE) if not any(re.search(pattern, line) for line in lines)]
    assert dead == []
    assert {who.split(":")[0].split()[0] for _, who in ELSEWHERE if who.startswith("tests/")} <= {
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(list(scripts())) > 60


def test_every_block_says_what_it_is():
    assert {block.language for block in pages.blocks()} <= {"sh", "sql", "text", "python", "json", "toml"}
