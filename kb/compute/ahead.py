"""Makes the next item while the one before it is used: processes compute while the database writes."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], left: Event | None = None) -> Generator[T, None, None]:
    """The items, each made in a thread while the one before it is used; never more than two are in memory.

    ``left`` is set when nobody wants more, so that what makes an item for a long time can end early. Close the
    generator before what the items are made with.
    """
    with ThreadPoolExecutor(1) as maker:
        try:
            coming = maker.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = maker.submit(next, items, None)
                yield item
        finally:
            if left is not None:
                left.set()
