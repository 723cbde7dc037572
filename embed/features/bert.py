"""A BERT encoder (Devlin et al. 2019) in numpy, for a handful of texts: importing torch would take longer than they do.

It reads the files that transformers reads and gives the mean of the last layer's tokens, as ``embed.features.text``
does with torch. Texts of any number go through torch, which is faster once it is there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Weights = dict[str, Matrix]
Forward = Callable[[Sequence[int]], Matrix]
FEW = 50_000
"""Up to this many numbers Python's own error function is as soon done."""


def holds_model(folder: Path) -> bool:
    """Whether the folder holds a model of the kind that is computed here."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) if path.is_file() and (folder / "model.safetensors").is_file() else {}
    return bool(config.get("model_type") == "bert" and config.get("hidden_act") == "gelu"
                and config.get("position_embedding_type", "absolute") == "absolute"
                and (folder / "tokenizer.json").is_file())


def open_forward(folder: Path) -> Forward:
    """The function from the token ids of one window to the mean (F,) of its last layer."""
    config = json.loads((folder / "config.json").read_text())
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    prefix = "bert." if any(name.startswith("bert.") for name in weights) else ""
    w: Weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    heads, layers, eps = config["num_attention_heads"], config["num_hidden_layers"], config["layer_norm_eps"]

    def forward(ids: Sequence[int]) -> Matrix:
        e = "embeddings."
        x = (w[f"{e}word_embeddings.weight"][list(ids)] + w[f"{e}token_type_embeddings.weight"][0]
             + w[f"{e}position_embeddings.weight"][:len(ids)])
        x = layer_norm(x, w, f"{e}LayerNorm", eps)
        for number in range(layers):
            name = f"encoder.layer.{number}."
            x = layer_norm(x + attended(x, w, f"{name}attention.", heads), w, f"{name}attention.output.LayerNorm", eps)
            inner = gelu(linear(x, w, f"{name}intermediate.dense"))
            x = layer_norm(x + linear(inner, w, f"{name}output.dense"), w, f"{name}output.LayerNorm", eps)
        mean: Matrix = x.mean(0)
        return mean

    return forward


def linear(x: Matrix, w: Weights, name: str) -> Matrix:
    """x W^T + b."""
    out: Matrix = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return out


def layer_norm(x: Matrix, w: Weights, name: str, eps: float) -> Matrix:
    """Layer normalisation."""
    centred = x - x.mean(-1, keepdims=True)
    out: Matrix = (centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"]
                   + w[f"{name}.bias"])
    return out


def _erf(x: Matrix) -> NDArray[np.float64]:
    """The error function; of few numbers without scipy.special, whose import takes longer than they do."""
    if x.size <= FEW:
        return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)
    from scipy.special import erf

    return np.asarray(erf(x), np.float64)


def gelu(x: Matrix) -> Matrix:
    """x Phi(x), exactly."""
    out: Matrix = (0.5 * x * (1 + _erf(x / np.sqrt(2.0)))).astype(np.float32)
    return out


def attended(x: Matrix, w: Weights, name: str, heads: int) -> Matrix:
    """Multi-head self-attention of one window (T, F)."""
    q, k, v = (linear(x, w, f"{name}self.{part}").reshape(len(x), heads, -1).transpose(1, 0, 2)
               for part in ("query", "key", "value"))
    score = q @ k.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[-1]))
    share = np.exp(score - score.max(-1, keepdims=True))
    mixed = (share / share.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(x), -1)
    return linear(mixed, w, f"{name}output.dense")
