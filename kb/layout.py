"""Tables as plain lines, laid out exactly as rich lays them out, a hundred times faster.

Rendering through rich costs a tenth of a second a screen, which is most of what a command that reads may take; a test
holds the two together. Text here has one cell a letter and is of one line; ``Unsuitable`` is raised otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

_WORD = re.compile(r"\s*\S+\s*")


class Unsuitable(ValueError):
    """The text has letters of other widths than one cell, tabs or newlines."""


def lay_out(names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], width: int, *,
            title: str | None = None, styled: bool = False) -> list[str]:
    """The lines of a table with a head, a rule under it and a blank line around, at most ``width`` cells wide.

    ``right`` says which columns are set to the right; ``styled`` makes the head bold and the title italic for a
    terminal. Raises Unsuitable.
    """
    _require_narrow([*names, title or ""])
    for row in rows:
        _require_narrow(row)
    if not names:
        return [""]
    last = len(names) - 1
    pads = [(0 if i == 0 else 1, 0 if i == last else 1) for i in range(len(names))]
    most = width - 2 - last
    natural = [min(max(map(len, column)) + sum(pad) or 1, most)
               for column, pad in zip(zip(names, *rows, strict=True), pads, strict=True)]
    widths = _collapsed(natural, most)
    inner = [wide - sum(pad) for wide, pad in zip(widths, pads, strict=True)]
    if min(inner) < 1:
        raise Unsuitable("columns of no letter")
    blank = " " * (sum(widths) + 2 + last)
    rule = " " + "─" * (sum(widths) + last) + " "
    bold, slanted = (("\x1b[1m", "\x1b[0m"), ("\x1b[3m", "\x1b[0m")) if styled else (("", ""), ("", ""))
    said = _wrapped(title, len(blank)) if title else []
    lines = [f"{slanted[0]}{line.ljust(len(blank))}{slanted[1]}" for line in said]
    lines.append(blank)
    for number, row in enumerate((names, *rows)):
        cells = [_wrapped(cell, wide) for cell, wide in zip(row, inner, strict=True)]
        if number == 0:  # the head stands on its rule
            height = max(map(len, cells))
            cells = [[""] * (height - len(cell)) + cell for cell in cells]
        marks = bold if number == 0 else ("", "")
        for parts in zip_longest(*cells, fillvalue=""):
            shown = [f"{' ' * pad[0]}{marks[0]}{part.rstrip().rjust(wide) if at_right else part.ljust(wide)}{marks[1]}"
                     f"{' ' * pad[1]}" for part, wide, at_right, pad in zip(parts, inner, right, pads, strict=True)]
            lines.append(f" {' '.join(shown)} ")
        if number == 0:
            lines.append(rule)
    return [*lines, blank]


def _require_narrow(texts: Sequence[str]) -> None:
    for text in texts:
        if "\n" in text or "\t" in text:
            raise Unsuitable(text)
        if not text.isascii():
            from rich.cells import cell_len

            if cell_len(text) != len(text):
                raise Unsuitable(text)


def _collapsed(widths: list[int], most: int) -> list[int]:
    """Widths that fit, the widest columns made narrower first, and all alike where that is not enough."""
    widths = list(widths)
    while (excess := sum(widths) - most) > 0:
        widest = max(widths)
        second = max(width if width != widest else 0 for width in widths)
        if widest == second:
            break
        widths = _reduced(excess, [int(width == widest) for width in widths], min(excess, widest - second), widths)
    if (excess := sum(widths) - most) > 0:
        widths = _reduced(excess, [1] * len(widths), max(widths), widths)
    return [max(width, 1) for width in widths]


def _reduced(total: int, ratios: Sequence[int], most: int, widths: Sequence[int]) -> list[int]:
    """The widths less ``total``, taken in the ratios, at most ``most`` and never more than there is, of each."""
    left, share, found = total, sum(ratios), []
    for ratio, width in zip(ratios, widths, strict=True):
        taken = min(most, width, round(ratio * left / share)) if ratio and share > 0 else 0
        found.append(width - taken)
        if ratio:
            left, share = left - taken, share - ratio
    return found


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width``, broken between words, and within words that are longer."""
    if len(text) <= width:
        return [text]
    breaks, used = [0], 0
    for found in _WORD.finditer(text):
        start, word = found.start(), found[0]
        length = len(word.rstrip())
        if width - used >= length:
            used += len(word)
        elif length > width:
            pieces = range(start, start + len(word), width)
            breaks += [place for place in pieces if place]
            used = len(word) - (len(pieces) - 1) * width
        elif used and start:
            breaks.append(start)
            used = len(word)
    return [text[first:stop][:width] for first, stop in zip(breaks, [*breaks[1:], len(text)], strict=True)]
