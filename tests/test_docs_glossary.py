"""The glossary: every word that it defines is used by other pages, and no page calls a thing by another word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
         if path != GLOSSARY and path.parent.name != "sources"}
BANNED = {
    r"\b(datasource|data provider)s?\b": "source, provider",
    r"\b(view|channel)s? of a drug\b": "modality",
    r"\bmodalit(?:y|ies) (?:encoder|head)s?\b": "tower",
    r"\b(medicine|medicament)s?\b": "drug, medication",
    r"\bpresent state\b|\bmissing state\b": "state: present, absent",
    r"\b(encounter|admission)s? of a patient\b": "visit",
    r"\bprescriptions? as labels?\b": "label",
    r"\blicensing terms\b|(?<!database )\blicense\b": "licence",
    r"\bnearest neighbou?r(?:hood)? drugs\b": "neighbours",
}
"""What the pages must not say, and the glossary's word for it."""


def defined() -> list[str]:
    """The words of the glossary's tables; a row that defines several gives each."""
    rows = re.findall(r"^\| (.+?) \| .+ \|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    words = [word.strip(" `") for row in rows if row not in ("word", "---") for word in row.split(",")]
    return [word for word in words if word]


def spoken() -> str:
    """All pages as one text, in small letters, without addresses and commands."""
    text = "\n".join(re.sub(r"```.*?```|https?://\S+|`[^`]*`", " ", page, flags=re.DOTALL) for page in PAGES.values())
    return text.lower()


def test_no_word_is_defined_twice() -> None:
    words = defined()
    assert len(words) > 50 and len(words) == len(set(words))


@pytest.mark.parametrize("word", defined())
def test_a_defined_word_is_used(word: str) -> None:
    everything = "\n".join(PAGES.values()).lower()
    assert re.search(rf"\b{re.escape(word.lower())}(?:s|es)?\b", everything), f"no page says {word!r}"


@pytest.mark.parametrize(("pattern", "word"), BANNED.items())
def test_a_thing_has_one_name(pattern: str, word: str) -> None:
    found = [match[0] for match in re.finditer(pattern, spoken())]
    assert found == [], f"the glossary says: {word}"


def test_the_patterns_find_what_they_ban() -> None:
    for sentence in ("the data provider said", "two medicines a day", "a modality encoder", "its license"):
        assert any(re.search(pattern, sentence) for pattern in BANNED), sentence
