"""The run folder, ``<home>/runs/pretrain/<run-id>``: what lies in it, where it was made, and its curves."""

from __future__ import annotations

import json
import platform
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed.config import PretrainConfig, from_json, to_json
from kb.errors import NotFound
from kb.files import hold, replace_file
from kb.pictures import save_figure
from kb.settings import Settings

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "torch-geometric", "rdkit", "pykeen", "numpy", "scipy", "scikit-learn", "transformers", "mkmed")


def pretrain_folder(settings: Settings) -> Path:
    """The folder of all pretraining runs."""
    return settings.runs / "pretrain"


def find_folder(settings: Settings, wanted: str) -> Path:
    """The run folder whose name begins with ``wanted``, or the latest for ``last``; raises NotFound."""
    folders = [p.parent for p in pretrain_folder(settings).glob("*/config.json")]
    if wanted == "last":
        found = sorted(folders, key=lambda p: max(f.stat().st_mtime for f in p.iterdir()))[-1:]
    else:
        found = [p for p in folders if p.name.startswith(wanted)]
    if len(found) != 1:
        raise NotFound(f"{len(found) or 'no'} pretraining runs match {wanted!r} below {pretrain_folder(settings)}",
                       hint="mkmed embed pretrain starts one" if not found else "give more of the id")
    return found[0]


def alone(folder: Path) -> AbstractContextManager[None]:
    """The run's lock: one process works on a run folder at a time; raises Busy with the name of the one that does."""
    folder.mkdir(parents=True, exist_ok=True)
    return hold(folder / "lock", f"run {folder.name}")


def write_config(folder: Path, config: PretrainConfig) -> None:
    """Keep the configuration of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "config.json", json.dumps(to_json(config), indent=1).encode())


def read_config(folder: Path) -> PretrainConfig:
    """The configuration that a run was started with."""
    return from_json(json.loads((folder / "config.json").read_text()))


def write_environment(folder: Path, device: torch.device, identities: dict[str, Any]) -> None:
    """Keep what the run was made with: versions, device, threads, and which encoder each modality went through."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    facts = {"python": platform.python_version(), "system": platform.system(), "device": str(device), "card": card,
             "threads": torch.get_num_threads(), "packages": versions, "encoders": identities}
    replace_file(folder / "env.json", json.dumps(facts, indent=1).encode())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The metrics of every finished epoch; a line that is being written is none yet."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def draw_curves(folder: Path) -> Path:
    """``curves.svg``: loss, temperatures and validation retrieval over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(folder)
    epochs = [row["epoch"] for row in rows]
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    left.set_prop_cycle(color=mpl.colormaps["tab20"](range(20)))  # more terms than the default has colours
    left.set_yscale("log")
    left.plot(epochs, [row["loss"] for row in rows], color="black", label="sum")
    for name in [k for k in rows[0] if k.startswith("loss.")] if rows else []:
        left.plot(epochs, [row.get(name) for row in rows], linewidth=0.8, label=name[5:])
    for name in [k for k in rows[0] if k.startswith("temperature.")] if rows else []:
        middle.plot(epochs, [row[name] for row in rows], label=name[12:])
    for name in ("recall@1", "recall@10", "mrr"):
        right.plot(epochs, [row[name] for row in rows], label=name)
    for axes, title in ((left, "loss"), (middle, "temperature"), (right, "validation retrieval")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        if rows:
            axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    path = folder / "curves.svg"
    save_figure(figure, path)
    pyplot.close(figure)
    return path
