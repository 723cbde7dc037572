"""What can be plugged into the embedding: towers, fusions and frozen models; a new one is one file and a line here."""

from __future__ import annotations

from typing import Any

from kb.registry import Registry

ANCHOR = "molecule"
"""The anchor's name among the towers: the molecule is not a sixth modality, but it has a tower and a vector."""

ENCODERS: Registry[Any] = Registry("encoder", {
    "molecule": "embed.encoders.molecule:MoleculeEncoder",
    "image": "embed.encoders.image:ImageEncoder",
    "text": "embed.encoders.text:TextEncoder",
    "structure": "embed.encoders.structure:StructureEncoder",
    "property": "embed.encoders.property:PropertyEncoder",
    "graph": "embed.encoders.graph:GraphEncoder",
}, group="mkmed.modalities", prefix="tower.")

FUSIONS: Registry[Any] = Registry("fusion", {
    "weighted": "embed.alignment.fusion:WeightedFusion",
    "gated": "embed.alignment.fusion:GatedFusion",
    "mixed": "embed.alignment.fusion:MixedFusion",
}, group="mkmed.modalities", prefix="fusion.")

TEXT_MODELS: Registry[Any] = Registry("text model", {
    "all-minilm-l6-v2": "embed.features.text:packaged_minilm",
    "transformers": "embed.features.text:transformers_text",
    "scratch": "embed.features.text:scratch_text",
}, group="mkmed.modalities", prefix="text.")

IMAGE_MODELS: Registry[Any] = Registry("image model", {
    "efficientnet-lite0": "embed.features.image:packaged_efficientnet",
    "transformers": "embed.features.image:transformers_image",
    "scratch": "embed.features.image:scratch_image",
}, group="mkmed.modalities", prefix="image.")
