"""What is generated is fresh, what is quoted is measured, and links lead somewhere."""

import json
import re
import sys

from tests.handbook.pages import PAGES, ROOT

sys.path.insert(0, str(ROOT / "docs"))

import generate_cli
import generate_figures


def test_the_page_of_commands_is_fresh():
    assert (ROOT / "docs" / "cli.md").read_text() == generate_cli.page(), "python docs/generate_cli.py"


def test_the_figures_are_those_of_the_last_benchmarks():
    seen = set()
    for page in generate_figures.PAGES:
        text = (ROOT / page).read_text()
        assert generate_figures.filled(text) == text, "python docs/generate_figures.py"
        seen |= set(re.findall("<!-- end of (.*) -->", text))
    assert seen == set(generate_figures.BLOCKS)
    for _, _, command in generate_figures.figures():
        assert (ROOT / "benchmarks" / command).is_file()


def test_every_command_has_help_and_an_example():
    for path, command in generate_cli.commands():
        assert command.help, path
        found = generate_cli.examples(command)
        assert any(" ".join(path) in example for example in found), path
        assert [p.name for p in command.params if not p.help] == [], path


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tables_of_files_are_those_of_the_manifest():
    manifest = json.loads((ROOT / "mkmed" / "demo" / "data" / "MANIFEST.json").read_text())
    rows = dict(re.findall(r"^\| `([\w.]+\.gz)` \| ([\d,]+) \|", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE))
    assert {name: int(count.replace(",", "")) for name, count in rows.items()} == {
        name: entry["rows"] for name, entry in manifest.items()}
    page = (ROOT / "docs" / "data.md").read_text()
    assert [n for n, entry in manifest.items() if not re.search(rf"`{n}` \|[^|]+\| {entry['licence']} \|", page)] == []
    named = re.findall(r"^\| (`[^|]+) \| ([\d,/ ]+) \|", (ROOT / "mkmed" / "demo" / "data" / "README.md").read_text(), re.MULTILINE)
    for names, counts in named:
        found = [manifest[name]["rows"] for name in re.findall(r"`([^`]+)`", names)]
        assert found == [int(count.replace(",", "")) for count in counts.split("/")], names


def test_files_that_the_pages_name_exist():
    """Every `path` of this repository in running text is there."""
    for page in PAGES:
        for target in re.findall(r"`((?:docs|tests|benchmarks|demo|kb|embed|recsys|report|migrations)/[\w./]+)`", page.read_text()):
            assert (ROOT / target).exists(), f"{page.name}: {target}"


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text()
    pages = [str(page.relative_to(ROOT)) for page in PAGES if page.parent.name == "docs" or page.name == "CONTRIBUTING.md"]
    assert [page for page in pages if f"({page})" not in text] == []


def test_every_picture_is_shown():
    shown = "".join(page.read_text() for page in PAGES)
    assert [p.name for p in (ROOT / "docs" / "pictures").iterdir() if f"pictures/{p.name})" not in shown] == []
