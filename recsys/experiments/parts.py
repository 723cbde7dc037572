"""Large tables of visits and medications worked through in parts, so that no step needs several copies of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TypeVar

import numpy as np

from recsys.cohorts.batches import BLOCK

T = TypeVar("T")


def by_rows(function: Callable[..., T], *tables: np.ndarray, width: int = 0) -> Iterator[T]:
    """What the function says of the same rows of all tables, part after part; one empty part of an empty table.

    A part has about BLOCK cells of the first table, or of one that is ``width`` wide.
    """
    height = max(BLOCK // max(width or prod(tables[0].shape[1:]), 1), 1)
    for first in range(0, max(len(tables[0]), 1), height):
        yield function(*(table[first:first + height] for table in tables))
