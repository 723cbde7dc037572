"""The site: built with --strict, nothing loaded from elsewhere, every page and every public name on it."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")

from tests.handbook.pages import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import site_pages

LOADED = re.compile(r"<(?:script|img|iframe|source|video|audio|link|object|embed)\b[^>]*?\s(?:src|href|data)=[\"']?([^\s\"'>]+)", re.IGNORECASE)
"""What a browser fetches by itself when it opens a page."""
STYLED = re.compile(r"(?:url\(|@import\s+)[\"']?([^\s\"')]+)")
DORMANT = {"unpkg.com/mermaid": "diagrams in Mermaid: there are none", "unpkg.com/resize-observer-polyfill": "browsers of before 2020",
           "api.github.com": "where a repo_url is set: none is", "api.gitlab.com": "likewise"}
"""Addresses in the theme's scripts, and when they would be asked."""


def build(place, *options, config=ROOT / "mkdocs.yml"):
    # --quiet would keep --strict from seeing warnings
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(place), *options],
                          cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9",
                                                                       "https_proxy": "http://127.0.0.1:9"})


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    done = build(place)
    assert done.returncode == 0, done.stderr + done.stdout
    return place


def test_nothing_is_loaded_from_elsewhere(site):
    asked = {(path.name, target) for path in site.rglob("*.html") for target in LOADED.findall(path.read_text())}
    asked |= {(path.name, target) for path in site.rglob("*.css") for target in STYLED.findall(path.read_text())}
    assert len(asked) > 50
    assert {(page, target) for page, target in asked if re.match(r"(?:https?:)?//", target)} == set()


def test_scripts_know_no_address_that_they_would_ask(site):
    """Comments name origins; strings with an address are those of the table above."""
    for path in site.rglob("*.js"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        found = set(re.findall(r"[\"'`]https?://([\w./-]+)", text))
        assert [one for one in found if not one.startswith((*DORMANT, "www.w3.org/"))] == [], path
    index = (site / "index.html").read_text()
    assert 'class="mermaid"' not in "".join(path.read_text() for path in site.rglob("*.html")) and "data-md-component=\"source\"" not in index


def test_links_and_anchors_lead_somewhere(site):
    """mkdocs checks Markdown; this checks what came out, raw HTML and rewritten links included."""
    ids = {path: set(re.findall(r"\sid=[\"']?([^\s\"'>]+)", path.read_text())) for path in site.rglob("*.html")}
    dead = []
    for page in ids:
        for target in re.findall(r"<a\b[^>]*?\shref=[\"']?([^\s\"'>]+)", page.read_text()):
            target = unquote(html.unescape(target))
            if re.match(r"[a-z]+:", target) or page.name == "404.html":
                continue
            file, _, anchor = target.partition("#")
            path = (page.parent / file).resolve() if file else page
            path = path / "index.html" if path.is_dir() else path
            if not path.exists() or (anchor and path in ids and anchor not in ids[path]):
                dead.append((page.name, target))
    assert dead == []


def test_every_public_name_has_its_place(site):
    import mkmed

    page = (site / "reference" / "mkmed.html").read_text()
    for name in mkmed.__all__:
        written = getattr(mkmed, name)
        where = f"mkmed.{name}" if not isinstance(written, type) else f"{written.__module__}.{name}"
        assert f'id="{where}"' in page, where
    for method in [name for name in vars(mkmed.KnowledgeBase) if not name.startswith("_")]:
        assert f'id="mkmed.knowledge.KnowledgeBase.{method}"' in page, method
    assert "float32 [N, D]" in page and "Raises" in page
    assert 'id="kb.errors.Ambiguous"' in (site / "reference" / "errors.html").read_text()


def test_notebooks_are_shown_with_what_they_answered(site):
    for path in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        page = (site / "notebooks" / f"{path.stem}.html").read_text()
        assert "<table" in page and "import mkmed" in re.sub(r"<[^>]+>", "", page)
    assert "<svg" in (site / "notebooks" / "search_and_encode.html").read_text(), "structures are drawn"


@pytest.mark.parametrize("wrong", ["[a page](nowhere.md)", "[an anchor](install.md#nowhere)", "[a file](../benchmarks/nowhere.py)"])
def test_a_dead_link_stops_the_build(tmp_path, wrong):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text(f"# Page\n\n{wrong}\n")
    (docs / "install.md").write_text("# Installing\n")
    text = re.sub(r"\nnav:.*", "", (ROOT / "mkdocs.yml").read_text(), flags=re.DOTALL)
    text = re.sub(r"\nhooks:[^\n]*", "", text).replace("docs_dir: docs", f"docs_dir: {docs}")
    (tmp_path / "mkdocs.yml").write_text(re.sub(r"  - mkdocstrings:.*?(?=\nmarkdown_extensions)", "", text, flags=re.DOTALL))
    done = build(tmp_path / "site", config=tmp_path / "mkdocs.yml")
    assert done.returncode != 0 and "nowhere" in done.stderr + done.stdout


def test_links_are_led_from_the_repository_to_the_site():
    said = "[a](docs/sql.md#drugs) [b](benchmarks/bench_store.py) ![c](docs/pictures/map.svg) [d](https://x.org) `[e](docs/f.md)`\n```sh\n[g](docs/sql.md)\n```"
    led = site_pages.linked(said, ROOT, "index.md")
    assert "[a](sql.md#drugs)" in led and "b (`benchmarks/bench_store.py`)" in led and "![c](pictures/map.svg)" in led
    assert "[d](https://x.org)" in led and "[g](docs/sql.md)" in led
    assert site_pages.linked("[a](../sql.md)", ROOT / "docs" / "sources", "sources/README.md") == "[a](../sql.md)"
    assert site_pages.linked("[a](../SECURITY.md)", ROOT / "docs", "security.md") == "[a](security-policy.md)"


def test_every_page_of_docs_is_on_the_site(site):
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if not (site / page.with_suffix(".html")).exists() and page.name != "README.md"] == []
    assert len(pages) > 30 and Path(site / "sources").is_dir()
