"""The pages of the documentation as data: their code blocks, and the commands in running text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "mkmed").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROGRAMS = ("mkmed", "make", "python", "pip", "torchrun", "psql", "sha256sum")
"""What a command in running text begins with."""


@dataclass(frozen=True)
class Block:
    """A fenced block, or one command of the running text (``inline``)."""

    page: str
    line: int
    language: str
    text: str
    inline: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of all pages in these languages, in order."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [Block(str(page.relative_to(ROOT)), text.count("\n", 0, match.start()) + 1, match[1], match[2])
                  for match in FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def inline() -> list[Block]:
    """The commands that stand between backticks in running text."""
    found = []
    for page in PAGES:
        text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"))
        for match in re.finditer(r"`([^`]+)`", text):
            command = " ".join(match[1].split())
            if command.split(" ")[0] in PROGRAMS and " " in command:
                line = text.count("\n", 0, match.start()) + 1
                found.append(Block(str(page.relative_to(ROOT)), line, "sh", command + "\n", inline=True))
    return found
