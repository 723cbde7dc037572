"""Makes the next items while the one before them is used: processes compute while the database writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")


MOST = 2
"""Items that are made before they are asked for."""


def ahead(items: Iterator[T], left: Event | None = None) -> Generator[T, None, None]:
    """The items, made in a thread while those before them are used; never more than ``MOST`` + 1 are in memory.

    ``left`` is set when nobody wants more, so that what makes an item for a long time can end early. Close the
    generator before what the items are made with.
    """
    with ThreadPoolExecutor(1) as maker:
        coming = deque(maker.submit(next, items, None) for _ in range(MOST))
        try:
            while (item := coming.popleft().result()) is not None:
                coming.append(maker.submit(next, items, None))
                yield item
        finally:
            if left is not None:
                left.set()
            for one in coming:
                one.cancel()
