"""A thread beside a block of work, which is told when the block is over and is waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(watch: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Run ``watch`` in a thread called ``name`` until the block is left, which sets the event that it is given."""
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(over,), name=name, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
