"""Texts without the words that say a therapeutic class, so that what a run owes to them can be measured.

A text that calls a drug a beta blocker, or names it propranolol, says what the class labels ask. ``mask`` leaves out
every word of ``data/class_words.txt``, and of as many random other words when asked to, which is the control.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from embed.source import Payloads, held

VERSION = 1
WORD = re.compile(r"[A-Za-z][A-Za-z]+")


@dataclass(frozen=True)
class ClassWords:
    """Whole words (singular), endings and beginnings that say a class, all in lower case."""

    words: frozenset[str]
    endings: tuple[str, ...]
    beginnings: tuple[str, ...]

    def say(self, word: str) -> bool:
        """Whether a word says a class."""
        low = word.lower()
        one = low[:-1] if low.endswith("s") else low
        return low in self.words or one in self.words or (
            len(one) > 5 and (one.endswith(self.endings) or one.startswith(self.beginnings)))


@lru_cache(maxsize=1)
def class_words() -> ClassWords:
    """The list that mkmed comes with."""
    lines = (files("embed") / "features" / "data" / "class_words.txt").read_text().splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return ClassWords(frozenset(w for w in kept if "-" not in w),
                      tuple(w[1:] for w in kept if w.startswith("-")), tuple(w[:-1] for w in kept if w.endswith("-")))


def mask(text: str) -> str:
    """The text without words that say a class; what is left of a text is never empty."""
    say = class_words().say
    return _tidy(WORD.sub(lambda found: "" if say(found[0]) else found[0], text))


def mask_random(text: str) -> str:
    """The text without as many of its other words as ``mask`` leaves out; one text always loses the same."""
    say = class_words().say
    found = list(WORD.finditer(text))
    said = [say(one[0]) for one in found]
    others = [k for k, yes in enumerate(said) if not yes]
    rng = np.random.default_rng([*text.encode()[:64], len(text)])
    gone = set(rng.permutation(others)[:sum(said)].tolist()) if others else set()
    number = iter(range(len(found)))
    return _tidy(WORD.sub(lambda one: "" if next(number) in gone else one[0], text))


def _tidy(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip() or "."


def masked(texts: Payloads, how: Callable[[str], str] = mask) -> Payloads:
    """The same texts of the same drugs after ``how``, held in memory."""
    return held(texts.row.tolist(), [how(str(text)) for text in texts.load(range(len(texts)))])
