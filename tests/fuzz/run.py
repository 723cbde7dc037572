"""Fuzzes one reader for some seconds: ``python -m tests.fuzz.run csv --seconds 600``; exit 1 with what broke it.

Hypothesis chooses what is changed in a document and makes a failure small. The process may grow by ``GROWTH`` bytes and
no more, so that a document which makes a reader fill the memory is a failure as well.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from kb.errors import MkmedError
from kb.output import say
from tests.fuzz.readers import TARGETS, Reader, Target

GROWTH = 1 << 30
SLOW = 30.0
"""CPU seconds that no document may take."""
EXAMPLES = 200
OPERATIONS = ("flip", "cut", "drop", "double", "word", "many", "swap", "number", "end", "pack")
Step = tuple[str, float, float, int]


def change(document: bytes, steps: list[Step], words: tuple[bytes, ...]) -> bytes:
    """The document after some changes: each an operation, two places as parts of its length, and a number."""
    import gzip

    for operation, first, second, number in steps:
        a, b = sorted((int(first * len(document)), int(second * len(document))))
        b = min(b, a + 2000)
        word = words[number % len(words)]
        if operation == "flip" and document:
            at = min(a, len(document) - 1)
            document = document[:at] + bytes([document[at] ^ (1 << number % 8)]) + document[at + 1 :]
        elif operation == "cut":
            document = document[:a]
        elif operation == "end":
            document = document[max(0, len(document) - 1 - number % 40) :] if number % 5 == 0 else document[: -1 - number % 40]
        elif operation == "drop":
            document = document[:a] + document[b:]
        elif operation == "double":
            document = document[:b] + document[a:b] * (1 + number % 4) + document[b:]
        elif operation == "word":
            document = document[:a] + word + document[a:]
        elif operation == "many":
            document = document[:a] + word * (1 << number % 14) + document[a:]
        elif operation == "swap":
            document = document[b:] + document[:a]
        elif operation == "number":
            document = document[:a] + str((-1) ** number * 10 ** (number % 40)).encode() + document[b:]
        elif operation == "pack" and number % 8 == 0:
            document = gzip.compress(document, 1)
    return document[: 8 << 20]


def documents(target: Target) -> st.SearchStrategy[bytes]:
    """Changed documents of a target."""
    place = st.floats(0, 1, exclude_max=True)
    steps = st.lists(st.tuples(st.sampled_from(OPERATIONS), place, place, st.integers(0, 1 << 16)), max_size=8)
    return st.one_of(
        st.tuples(st.sampled_from(target.seeds()), steps).map(lambda pair: change(*pair, target.words)),
        st.binary(max_size=300),
    )


def fuzz(name: str, seconds: float, first: int, folder: Path) -> int:
    """How many documents the reader was given; raises what is not a MkmedError."""
    target = TARGETS[name]
    reader: Reader = target.make(folder)
    given_documents = documents(target)
    for document in target.seeds():
        load(reader, document, folder)
    _limit_memory()
    ends = time.monotonic() + seconds
    count, round_ = 0, 0
    while time.monotonic() < ends:

        @seed(first + round_)
        @settings(max_examples=EXAMPLES, deadline=None, database=None, print_blob=False,
                  suppress_health_check=list(HealthCheck))
        @given(given_documents)
        def one(document: bytes) -> None:
            nonlocal count
            if time.monotonic() > ends:
                return
            count += 1
            started = time.process_time()  # a busy machine makes nothing slow
            faulthandler.dump_traceback_later(10 * SLOW, exit=True)
            try:
                reader(document, folder)
            except MkmedError as error:
                assert error.message and len(error.message) < 20_000, "a message that nobody can read"
                error.message.encode("utf-8")
            finally:
                faulthandler.cancel_dump_traceback_later()
            assert time.process_time() - started < SLOW, "too slow"

        one()
        round_ += 1
    return count


def load(reader: Reader, document: bytes, folder: Path) -> None:
    """Load what the reader imports, by a document that is as it should be."""
    try:
        reader(document, folder)
    except MkmedError as error:
        say(f"note: a first document is refused: {error.message}")


def _limit_memory() -> None:
    """Let this process grow by ``GROWTH`` bytes of address space at most."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + GROWTH, now + GROWTH))


def main() -> None:
    """Fuzz the reader that the command line names."""
    parser = argparse.ArgumentParser(description="fuzz one reader")
    parser.add_argument("name", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS") or 600))
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    arguments = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="mkf-") as folder:
        started = time.monotonic()
        count = fuzz(arguments.name, arguments.seconds, arguments.seed, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say(f"{arguments.name}: {count:,} documents in {time.monotonic() - started:.0f} s, seed {arguments.seed}: no crash;"
        f" memory at its peak {peak // 1024} MB ({before // 1024} MB before)")


if __name__ == "__main__":
    main()
