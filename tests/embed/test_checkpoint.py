"""Checkpoints: atomic, hashed, one kept behind, and deaf to pickled code."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from embed.runs import checkpoint
from kb.errors import CheckpointError


def write(folder, number):
    return checkpoint.save(folder / "last.pt", {"w": torch.full((3,), float(number))}, {"step": number})


def step(folder):
    tensors, meta = checkpoint.load_checkpoint(folder / "last.pt")
    assert tensors["w"][0] == meta["step"]
    return meta["step"]


def test_round_trip_and_copy(tmp_path):
    live = torch.zeros(2)
    checkpoint.save(tmp_path / "last.pt", {"w": live, "nested": {"n": [1, live]}}, {"a": None})
    live += 1
    tensors, meta = checkpoint.load_checkpoint(tmp_path / "last.pt")
    assert torch.equal(tensors["w"], torch.zeros(2))
    assert torch.equal(tensors["nested"]["n"][1], torch.zeros(2))
    assert meta == {"a": None}


@pytest.mark.parametrize("damage", ["empty", "truncated", "bit", "missing"])
def test_damage_goes_back_to_the_one_before(tmp_path, damage, capsys):
    write(tmp_path, 1)
    write(tmp_path, 2)
    path = tmp_path / "last.pt"
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes({"empty": b"", "truncated": bytes(data[:200]), "bit": bytes(data)}[damage])
    assert step(tmp_path) == 1
    assert str(path) in capsys.readouterr().err


def test_without_one_before_it_is_refused_by_name(tmp_path):
    write(tmp_path, 1)
    path = tmp_path / "last.pt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"last\.pt is truncated or altered"):
        checkpoint.load_checkpoint(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.load_checkpoint(tmp_path / "none.pt")


def test_both_damaged_names_both(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2)
    for name in ("last.pt", "last.previous.pt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"last\.pt.*last\.previous\.pt"):
        checkpoint.load_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("point", ["manifest", "behind", "rename"])
def test_a_kill_at_any_point_of_a_save_loses_nothing(tmp_path, monkeypatch, point):
    write(tmp_path, 1)
    write(tmp_path, 2)
    real, calls = checkpoint.replace_file, []

    def killed(path, data):
        calls.append(path.name)
        if point == "manifest" or (point == "rename" and path.name == "last.pt"):
            raise KeyboardInterrupt
        real(path, data)
        if point == "behind":
            raise KeyboardInterrupt

    for _ in range(3):  # again and again at the same point
        monkeypatch.setattr(checkpoint, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, 3)
        monkeypatch.undo()
        assert step(tmp_path) == 2
    write(tmp_path, 4)
    assert step(tmp_path) == 4


def test_a_pickled_class_is_refused(tmp_path, capsys):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    buffer = io.BytesIO()
    torch.save({"tensors": Evil(), "meta": "{}"}, buffer)
    path = tmp_path / "last.pt"
    path.write_bytes(buffer.getvalue())
    (tmp_path / checkpoint.MANIFEST).write_text(
        json.dumps({"last.pt": [hashlib.sha256(buffer.getvalue()).hexdigest()]}))
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        checkpoint.load_checkpoint(path)
    assert capsys.readouterr().out == ""


TYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


def test_arrays_are_what_torch_reads_and_torch_is_not_imported(tmp_path):
    live = torch.arange(24).reshape(2, 3, 4)
    tensors = {"types": [live.to(kind) for kind in TYPES], "turned": live.transpose(0, 2),
               "part": live[1, 1:], "none": torch.zeros(0, 3), "number": torch.tensor(3.5), "plain": {"n": [1, "a", None]}}
    checkpoint.save(tmp_path / "last.pt", tensors, {"a": 1})
    read, meta = checkpoint.load_checkpoint(tmp_path / "last.pt", arrays=True)
    expected, _ = checkpoint.load_checkpoint(tmp_path / "last.pt")
    assert meta == {"a": 1} and read["plain"] == expected["plain"]
    for name in ("turned", "part", "none", "number"):
        np.testing.assert_array_equal(read[name], expected[name].numpy())
        assert read[name].dtype == expected[name].numpy().dtype
    for own, other in zip(read["types"], expected["types"], strict=True):
        np.testing.assert_array_equal(own, other.numpy())
        assert own.dtype == other.numpy().dtype
    program = ("import sys; from pathlib import Path; from embed.runs.checkpoint import load_checkpoint; "
               f"load_checkpoint(Path({str(tmp_path / 'last.pt')!r}), arrays=True); assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("content", ["class", "beyond", "big-endian", "bfloat16"])
def test_arrays_of_a_strange_file_are_refused(tmp_path, content):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    buffer, path = io.BytesIO(), tmp_path / "last.pt"
    made = {"class": Evil(), "bfloat16": torch.zeros(2, dtype=torch.bfloat16)}.get(content, torch.arange(4))
    torch.save({"tensors": {"w": made}, "meta": "{}"}, buffer)
    data = buffer.getvalue()
    if content in ("beyond", "big-endian"):
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        name = next(n for n in parts if n.endswith("/data/0" if content == "beyond" else "/byteorder"))
        parts[name] = parts[name][:8] if content == "beyond" else b"big"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as new:
            for each, inside in parts.items():
                new.writestr(each, inside)
        data = buffer.getvalue()
    path.write_bytes(data)
    (tmp_path / checkpoint.MANIFEST).write_text(json.dumps({"last.pt": [hashlib.sha256(data).hexdigest()]}))
    with pytest.raises(CheckpointError, match=r"more than tensors|no content that can be read"):
        checkpoint.load_exactly(path, arrays=True)
