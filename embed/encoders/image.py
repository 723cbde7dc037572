"""The image tower: what a frozen vision model (ViT, CLIP or EfficientNet-Lite0) saw in the 2D depiction, to D."""

from __future__ import annotations

from embed.encoders.base import VectorTower


class ImageEncoder(VectorTower):
    """A head on the cached output of the frozen image model; reads ``inputs["vector"]`` (B, F)."""
