"""Tests of the embedding run torch on one thread: the tensors are small, and threads would only wait for each other."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Set torch's threads once."""
    import torch

    torch.set_num_threads(1)
