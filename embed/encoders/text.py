"""The text tower: the mean of a frozen language model's windows over a drug's descriptions, to D."""

from __future__ import annotations

from embed.encoders.base import VectorTower


class TextEncoder(VectorTower):
    """A head on the cached output of the frozen text model; reads ``inputs["vector"]`` (B, F)."""
