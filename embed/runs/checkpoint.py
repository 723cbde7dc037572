"""Checkpoints that survive a kill and refuse damage: tensors and JSON only, hashed, renamed into place, one kept.

``manifest.json`` lists for each file the sha256 that it may have. It is replaced before the file is, and names both the
new and the old digest, so at every moment the file on disk is one that the manifest knows; a flipped bit makes it one
that it does not (``torch.load`` itself checks no sum).
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # the name of the error that torch raises, nothing else
from typing import Any

from embed.runs.torch_file import read_torch_arrays
from kb.errors import CheckpointError
from kb.files import replace_file
from kb.output import say

MANIFEST = "manifest.json"
UNREADABLE = (EOFError, LookupError, TypeError, ValueError, RuntimeError, AttributeError, AssertionError, OSError,
              OverflowError, MemoryError, struct.error)
"""What torch and a reader raise for content that has the right hash but is empty, cut or of another shape."""


def _manifest(folder: Path) -> dict[str, list[str]]:
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        known: dict[str, list[str]] = json.loads(path.read_text())
    except ValueError:
        raise CheckpointError(f"{path} is not JSON", hint="the run folder is damaged; start a new run") from None
    if not isinstance(known, dict) or not all(isinstance(digests, list) for digests in known.values()):
        raise CheckpointError(f"{path} lists no checkpoints", hint="the run folder is damaged; start a new run")
    return known


def _behind(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save(path: Path, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """Write ``{"tensors", "meta"}`` to ``path`` and return its sha256; the former file stays as ``<name>.previous.pt``.

    ``tensors`` may be nested dicts and lists of tensors and numbers; ``meta`` must be JSON.
    """
    import torch

    buffer = io.BytesIO()
    torch.save({"tensors": _copied(tensors), "meta": json.dumps(meta)}, buffer)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(path.parent)
    behind = _behind(path)
    current = _digest_on_disk(path, manifest)
    manifest[behind.name] = [*current, *_digest_on_disk(behind, manifest)]
    manifest[path.name] = [digest, *current]
    replace_file(path.parent / MANIFEST, json.dumps(manifest, indent=1).encode())
    if current:
        path.replace(behind)
    replace_file(path, data)
    return digest


def _digest_on_disk(path: Path, manifest: Mapping[str, list[str]]) -> list[str]:
    """The digest of the file as it lies there, if it is one that may be there."""
    if not path.exists():
        return []
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return [digest] if digest in manifest.get(path.name, []) else []


def _copied(value: Any) -> Any:
    """The same structure with tensors copied off the device: a checkpoint never aliases weights that still train."""
    if hasattr(value, "detach"):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def load_exactly(path: Path, *, arrays: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(tensors, meta)`` of one file; raises CheckpointError, which names the file, if it is missing or altered.

    With ``arrays`` the tensors come as NumPy arrays, and torch is not imported.
    """
    if not path.exists():
        raise CheckpointError(f"checkpoint {path} does not exist")
    data = path.read_bytes()
    known = _manifest(path.parent).get(path.name, [])
    if hashlib.sha256(data).hexdigest() not in known:
        raise CheckpointError(f"checkpoint {path} is truncated or altered: its sha256 is not the one in {MANIFEST}")
    try:
        loaded = read_torch_arrays(data) if arrays else _torch_loaded(data)
        tensors, meta = loaded["tensors"], json.loads(loaded["meta"])
    except UnpicklingError:
        raise CheckpointError(f"checkpoint {path} holds more than tensors and is refused") from None
    except UNREADABLE as error:
        raise CheckpointError(f"checkpoint {path} has no content that can be read ({type(error).__name__})") from None
    if not isinstance(tensors, dict) or not isinstance(meta, dict):
        raise CheckpointError(f"checkpoint {path} has other content than tensors by name and their description")
    return tensors, meta


def _torch_loaded(data: bytes) -> Any:
    import torch

    # weights_only refuses every pickled class, so a file from a stranger cannot run code.
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def load_checkpoint(path: Path, *, arrays: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(tensors, meta)`` of ``path``, or of the file before it if ``path`` is damaged; says so on stderr.

    With ``arrays`` as for ``load_exactly``.
    """
    try:
        return load_exactly(path, arrays=arrays)
    except CheckpointError as error:
        behind = _behind(path)
        if not behind.exists():
            raise CheckpointError(error.message, hint="there is no earlier checkpoint; start a new run") from None
        say(f"{error.message}; going back to {behind}")
        try:
            return load_exactly(behind, arrays=arrays)
        except CheckpointError as second:
            raise CheckpointError(f"{error.message}; {second.message}", hint="start a new run") from None
