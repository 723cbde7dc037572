"""How the processes of one job share what goes before the first step.

Each process has the features of its share of the drugs made; the first then prepares, writes tensors into the run
folder, and all of them map these files: a machine's memory holds them once, and of them what is used. A card gets a
copy of what it has room for; of the rest each process reads the rows of its share of a batch. Every process must see
the same home.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embed.alignment.objective import Relation
from embed.training import distributed
from embed.training.data import Dataset, PackedTensors, place_table
from embed.training.split import DrugSplit
from kb.errors import ConfigError

FOLDER, INDEX = "shared", "index.json"


@contextmanager
def shared_folder(folder: Path) -> Iterator[Path]:
    """Where the first process writes what all of them map; what a killed job left there is removed first."""
    place = folder / FOLDER
    first = distributed.rank() == 0
    if first:
        shutil.rmtree(place, ignore_errors=True)
    try:
        yield place
    finally:
        if first:
            shutil.rmtree(place, ignore_errors=True)


def write_shared(place: Path, data: Dataset, relations: list[Relation], split: DrugSplit) -> None:
    """Write the tensors as one .npy file each; the index comes last."""
    arrays: dict[str, NDArray[Any]] = {"drug_ids": data.drug_ids, "group": data.group.cpu().numpy(),
                                       **{f"split.{name}": getattr(split, name) for name in _SIDES}}
    for name, table in data.tables.items():
        arrays[f"table.{name}.position"] = table.position.numpy()
        for part, tensors in (("columns", table.items.columns), ("indptr", table.items.indptr)):
            arrays |= {f"table.{name}.{part}.{key}": tensor.cpu().numpy() for key, tensor in tensors.items()}
    for number, one in enumerate(relations):
        arrays |= {f"relation.{number}.vectors": one.vectors.cpu().numpy(),
                   f"relation.{number}.position": one.position.cpu().numpy()}
    place.mkdir(parents=True)
    for number, array in enumerate(arrays.values()):
        np.save(place / f"{number}.npy", array, allow_pickle=False)
    plain = [{"tanimoto": one.tanimoto, "weight": one.weight, "mean": one.mean, "spread": one.spread}
             for one in relations]
    index = {"arrays": {name: array.size for name, array in arrays.items()},
             "tables": {name: table.items.n for name, table in data.tables.items()},
             "relations": plain}
    (place / INDEX).write_text(json.dumps(index))


_SIDES = ("train", "validation", "test")


def read_shared(place: Path, device: torch.device) -> tuple[Dataset, list[Relation], DrugSplit]:
    """What ``write_shared`` wrote, mapped, on a card a copy of what it has room for.

    Raises ConfigError where it is not to be seen.
    """
    if not (place / INDEX).is_file():
        raise ConfigError(f"process {distributed.rank()} does not see {place}, which the first has written",
                          hint="every node needs the same home (MKMED_HOME)")
    index = json.loads((place / INDEX).read_text())
    arrays = {name: _mapped(place / f"{number}.npy", size)
              for number, (name, size) in enumerate(index["arrays"].items())}

    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}

    tables = {name: place_table(name, PackedTensors(count, below(f"table.{name}.columns."),
                                                    below(f"table.{name}.indptr.")),
                                arrays[f"table.{name}.position"], device)
              for name, count in index["tables"].items()}
    relations = [Relation(arrays[f"relation.{number}.vectors"].to(device),
                          arrays[f"relation.{number}.position"].to(device), **plain)
                 for number, plain in enumerate(index["relations"])]
    split = DrugSplit(*(arrays[f"split.{name}"].numpy() for name in _SIDES))
    return Dataset(arrays["drug_ids"].numpy(), tables, arrays["group"].to(device)), relations, split


def _mapped(path: Path, size: int) -> Tensor:
    """The array of a .npy file, mapped copy on write: pages come as they are read, and nothing is written back."""
    return torch.from_numpy(np.load(path, mmap_mode="c" if size else None, allow_pickle=False))
