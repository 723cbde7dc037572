"""What the site has besides the pages of ``docs``: README and its neighbours, and the notebooks as they were run.

Links between pages are written for the repository; what lies outside of ``docs`` and is no page of the site is shown as
the name of its file. MkDocs calls these functions (``hooks`` in ``mkdocs.yml``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
         "SECURITY.md": "security-policy.md"}
"""Pages of the repository that are pages of the site: where they lie, and under which name they are shown."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
FENCES = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """Put every source's page, and every page that the navigation does not name, where a reader finds it."""
    docs = ROOT / "docs"
    named = set(re.findall(r"[\w/.-]+\.md", json.dumps(config.nav)))
    others = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    for section, pages in _sections(config.nav):
        if section == "Sources":
            pages += [page for page in others if page.startswith("sources/") and page not in named]
        elif section == "Use":
            pages += [page for page in others if not page.startswith("sources/") and page not in named]
    return config


def _sections(nav: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    for entry in nav:
        for section, pages in entry.items() if isinstance(entry, dict) else ():
            if isinstance(pages, list):
                yield section, pages
                yield from _sections(pages)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File

    for source, target in PAGES.items():
        text = linked((ROOT / source).read_text(encoding="utf-8"), ROOT, target)
        files.append(File.generated(config, target, content=text))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        page, book = f"notebooks/{path.stem}.md", json.loads(path.read_text(encoding="utf-8"))
        text = linked("\n\n".join(cells(book)), path.parent, page)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A page of ``docs`` with its links as the site has them."""
    if page.file.generated_by is not None:
        return markdown
    return linked(markdown, (ROOT / "docs" / page.file.src_uri).parent, page.file.src_uri)


def linked(text: str, folder: Path, page: str) -> str:
    """The text of ``page`` with each link from ``folder`` led to where its target is on the site."""

    def lead(found: re.Match[str]) -> str:
        picture, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = (folder / target).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return found[0]  # --strict complains
        shown = place_of(path)
        if shown is None:
            return words if "`" in words else f"{words} (`{path.relative_to(ROOT)}`)"
        up = "../" * page.count("/")
        return f"{picture}[{words}]({up}{shown}{anchor})"

    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    return re.sub("\0(\\d+)\0", lambda m: kept[int(m[1])], LINK.sub(lead, FENCES.sub(keep, text)))


def place_of(path: Path) -> str | None:
    """The address of a file within the site's sources; None for what is not on the site."""
    name = path.relative_to(ROOT).as_posix()
    if name in PAGES:
        return PAGES[name]
    if path.suffix == ".ipynb":
        name = str(Path(name).with_suffix(".md"))
    if path.is_dir() or not name.startswith("docs/") or path.suffix == ".py":
        return None
    return name.removeprefix("docs/")


def cells(book: dict[str, Any]) -> Iterator[str]:
    """A notebook's cells as Markdown, each with what it answered."""
    for cell in book["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield text
            continue
        yield f"```python\n{text}\n```"
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/html" in data:
                yield f'<div class="md-typeset__scrollwrap" markdown="0">{one_block("".join(data["text/html"]))}</div>'
            elif said := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                yield f"```text\n{said}\n```"


def one_block(html: str) -> str:
    """HTML without empty lines, so that Markdown takes it as one block, and without styles of its own."""
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"\n\s*\n", "\n", re.sub(r"<\?xml[^>]*>|<!--.*?-->", "", html, flags=re.DOTALL)).strip()
