"""Everything that a person or a pipe reads: data to stdout, talk to stderr, in one place.

Names, errors and free text come from files and services. What people read (tables, talk, errors, whatever goes to a
terminal) has control and format characters as visible escapes; JSON has them as JSON escapes; CSV into a file or pipe
has them as they are.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress


class Format(StrEnum):
    """How a listing is written."""

    table = "table"
    json = "json"
    csv = "csv"
    latex = "latex"


Beat = Callable[[str, float, float | None, str], None]
"""What is told of a task's progress: its name, how much is done, of how much, and a note."""


class _Talk:
    """How much is said on stderr, and who listens; set once by the command line."""

    quiet = False
    heard: Callable[[str], None] | None = None
    pulse: Callable[[], Beat] | None = None


def set_quiet(quiet: bool) -> None:
    """Silence everything on stderr but errors."""
    _Talk.quiet = quiet


def listen(heard: Callable[[str], None] | None, pulse: Callable[[], Beat] | None) -> None:
    """Have ``heard`` called with every line of talk, and what ``pulse`` returns with a task's progress (the log)."""
    _Talk.heard, _Talk.pulse = heard, pulse


_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""What moves the cursor, changes the terminal or reorders the line: C0 but tab and newline, C1, bidirectional controls,
separators, invisible marks, tags, lone surrogates."""
WIDTH = 140
"""Columns of a table that goes to no terminal, where COLUMNS does not say otherwise."""


def for_people(text: str) -> str:
    """The text with every control and invisible format character as a visible escape, such as ``\\x1b``."""
    return _UNSEEN.sub(lambda found: found[0].encode("ascii", "backslashreplace").decode()
                       if ord(found[0]) > 0x7F else f"\\x{ord(found[0]):02x}", text)


def _in_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def as_json(value: Any) -> str:
    """The value as indented JSON text, letters as they are, control and format characters as ``\\u`` escapes."""
    return _UNSEEN.sub(_in_json, json.dumps(plain(value), ensure_ascii=False, indent=1))


def _console(stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    height = shutil.get_terminal_size().lines if stream.isatty() else 100
    return Console(file=stream, width=_width(stream), height=height, highlight=False, soft_wrap=False)


def _width(stream: TextIO) -> int:
    """The columns of a terminal; of a file or pipe what COLUMNS says, or WIDTH."""
    if stream.isatty():
        # shutil passes over a COLUMNS or LINES that is no number; rich would stumble over some of them.
        return shutil.get_terminal_size().columns
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if re.fullmatch(r"[0-9]{1,5}", asked) and int(asked) else WIDTH


def say(message: str) -> None:
    """Write one line of talk to stderr, unless ``-q``."""
    if _Talk.heard is not None:
        _Talk.heard(message)
    if not _Talk.quiet:
        print(for_people(message), file=sys.stderr, flush=True)  # noqa: T201


def confirm(question: str) -> bool:
    """Whether the person at the terminal says yes; False where there is none, or with ``-q``."""
    if _Talk.quiet or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(for_people(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)  # noqa: T201
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def complain(message: str, hint: str | None = None) -> None:
    """Write an error, and the next step, to stderr."""
    print(for_people(f"error: {message}"), file=sys.stderr)  # noqa: T201
    if hint:
        print(for_people(f"hint: {hint}"), file=sys.stderr, flush=True)  # noqa: T201


def write(text: str) -> None:
    """Write one line of data to stdout, as it is into a file or pipe, escaped for people on a terminal."""
    print(for_people(text) if sys.stdout.isatty() else text, flush=True)  # noqa: T201


def plain(value: Any) -> Any:
    """The JSON form of a value: UUIDs and paths as text, times as ISO 8601 in UTC, bytes as hex."""
    if value is None or type(value) in (str, int, float, bool):  # nearly all
        return value
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID | Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return value


def _cell(value: Any) -> str:
    if type(value) is str:
        return value
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "·"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        return ", ".join(_cell(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


LEAST_COLUMN = 8
"""Letters that a column of a table keeps on a narrow terminal."""


def open_streams() -> None:
    """Make stdout and stderr take every letter: UTF-8 into files and pipes, a question mark on terminals without it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller: what is written goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - for the process's life
        elif isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8")


def csv_safe(value: Any) -> Any:
    """The value as one CSV cell: lists as JSON, and text that a spreadsheet would run made inert (CWE-1236)."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r", "\0"):
        return "'" + value.replace("\0", "")
    return value


def emit(
    rows: Iterable[Mapping[str, Any]],
    form: Format = Format.table,
    *,
    columns: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Write rows to stdout as a table, a JSON array or CSV; ``columns`` fixes names and order."""
    listed = [dict(row) for row in rows]
    names = list(columns) if columns else list(dict.fromkeys(key for row in listed for key in row))
    if form is Format.json:
        write(as_json([{n: r.get(n) for n in names} for r in listed]))
    elif form is Format.csv:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([csv_safe(plain(row.get(name))) for name in names] for row in listed)
        write(buffer.getvalue().rstrip("\n"))
    elif form is Format.latex:
        write(as_latex(listed, names, title))
    else:
        _table(listed, names, title)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
          **{sign: f"\\{sign}" for sign in "&%$#_{}"}}


def as_latex(rows: Sequence[Mapping[str, Any]], names: Sequence[str], title: str | None = None) -> str:
    """The rows as a ``tabular`` of the package booktabs, numbers to the right; ``title`` is its caption's text."""
    def words(value: Any) -> str:
        return "".join(_LATEX.get(letter, letter) for letter in for_people(_cell(value)))

    right = [bool(rows) and all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
             for name in names]
    lines = [f"% {for_people(title)}"] if title else []
    lines += [rf"\begin{{tabular}}{{{''.join('r' if at_right else 'l' for at_right in right)}}}", r"\toprule",
              f"{' & '.join(words(name) for name in names)} \\\\", r"\midrule"]
    lines += [f"{' & '.join(words(row.get(name)) for name in names)} \\\\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _table(rows: list[dict[str, Any]], names: Sequence[str], title: str | None) -> None:
    heads = [for_people(name) for name in names]
    cells = [[for_people(_cell(row.get(name))) for name in names] for row in rows]
    numeric = [bool(rows) and all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
               for name in names]
    # On a narrow terminal the terminal may break lines; columns of one letter nobody can read.
    longest = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    least = sum(min(length, LEAST_COLUMN) + 3 for length in longest)
    words = for_people(title) if title else None
    if not (_plain_terminal() and _quickly(heads, cells, numeric, least, words)):
        _richly(heads, cells, numeric, least, words)


def _plain_terminal() -> bool:
    """Whether stdout takes UTF-8 as it is: a file, a pipe, or a terminal of which nothing else was asked."""
    asked = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    named = str(getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    return named == "utf8" and not any(os.environ.get(name) for name in asked)


def _quickly(heads: list[str], cells: list[list[str]], numeric: list[bool], least: int, title: str | None) -> bool:
    """Whether the table could be written without rich, which takes a tenth of a second."""
    from kb.layout import Unsuitable, lay_out

    styled = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
    try:
        lines = lay_out(heads, cells, numeric, max(_width(sys.stdout), least), title=title, styled=styled)
    except Unsuitable:
        return False
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    return True


def _richly(heads: list[str], cells: list[list[str]], numeric: list[bool], least: int, title: str | None) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=Text(title, "table.title") if title else None,
                  title_justify="left", pad_edge=False)
    for name, right in zip(heads, numeric, strict=True):
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row_cells in cells:
        table.add_row(*map(Text, row_cells))
    console = _console(stderr=False)
    console.width = max(console.width, least)
    console.print(table)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display with rate and ETA on stderr, drawn only on a terminal and never with ``-q``."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Words(ProgressColumn):
        """A text of the task, shown as it is: no markup, no escapes."""

        def __init__(self, of: Callable[[Task], str]) -> None:
            super().__init__()
            self.of = of

        def render(self, task: Task) -> Text:
            return Text(for_people(self.of(task)))

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.1f}/s" if speed else "–/s")

    beat = _Talk.pulse() if _Talk.pulse else None

    class Told(Progress):
        """A display whose tasks are told to the log, too."""

        def update(self, task_id: Any, **fields: Any) -> None:
            super().update(task_id, **fields)
            if beat is not None:
                task = self._tasks[task_id]
                beat(task.description, task.completed, task.total, str(task.fields["note"]))

    shown = sys.stderr.isatty() and not _Talk.quiet
    columns = (
        Words(lambda task: task.description),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        Words(lambda task: str(task.fields["note"])),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Told(*columns, console=_console(stderr=True), disable=not shown) as bar:
        yield bar
