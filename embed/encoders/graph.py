"""The graph tower: a drug's place in the knowledge graph (TransE vector, weighted neighbourhood, or both), to D."""

from __future__ import annotations

from embed.encoders.base import VectorTower


class GraphEncoder(VectorTower):
    """A head on the graph features; reads ``inputs["vector"]`` (B, F)."""
