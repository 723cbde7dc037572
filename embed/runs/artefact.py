"""A run as an artefact: one folder that says everything of itself, hashed, and readable without a database.

=======================  ============================================================================================
``config.json``          the configuration
``run.json``             id, time, versions, encoders, licences, the knowledge base's fingerprint, the model's arguments
``drugs.safetensors``    the drugs it was trained on, what was known of each (a digest), and the split
``fitted.safetensors``   projections, the graph's vocabulary and IDF weights, the entities' vectors
``weights.safetensors``  towers, temperatures and fusion
``evaluation.*``         held-out drugs with vectors, rivals' features and labels, for ``mkmed embed evaluate``
``reference.*``          how near known drugs lie to the training drugs, to tell how unusual a query is
``card.md, card.json``   the model card
``artefact.json``        the sha256 of each of these; its own digest is the artefact's
=======================  ============================================================================================

Training begins by writing what it must not lose (state ``open``) and ends by sealing the rest. A run of release 0.1.0
has no such file: its weights and projections are read, and what it did not keep is refused with the next step.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from embed.config import PretrainConfig, from_json, to_json
from embed.features import fitted as fitted_state
from embed.features import reduce
from embed.features.fitted import Fitted
from embed.runs import checkpoint
from embed.runs.drugs import RunDrugs
from kb.errors import CheckpointError, NotFound, UsageError
from kb.files import replace_file

FORMAT = 1
MANIFEST = "artefact.json"
TOLD_ALONG = ("metrics.jsonl", "env.json")
"""Files that travel with an exported run but are no part of what it computes."""
MOST_BYTES = 1 << 36
OLD = "mkmed embed pretrain makes a run that keeps it"

Arrays = Mapping[str, NDArray[Any]]


@dataclass
class Artefact:
    """A run folder with its files' digests, ``open`` while it trains and ``sealed`` when it is finished."""

    folder: Path
    state: str
    files: dict[str, str]
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> uuid.UUID:
        """The run's id, which is its folder's name."""
        return uuid.UUID(self.folder.name)

    @property
    def sealed(self) -> bool:
        """Whether the run is finished."""
        return self.state == "sealed"

    @property
    def digest(self) -> str:
        """The sha256 of the manifest: two artefacts with the same digest are the same, byte for byte."""
        return hashlib.sha256(self._manifest()).hexdigest()

    def _manifest(self) -> bytes:
        listed = {"format": FORMAT, "run": self.folder.name, "state": self.state, "files": self.files}
        return json.dumps(listed, indent=1, sort_keys=True).encode()

    def bytes_of(self, name: str) -> bytes:
        """A file's content; raises CheckpointError when it is missing or not the one in the manifest."""
        path = self.folder / name
        if name not in self.files or not path.is_file():
            raise CheckpointError(f"run {self.folder.name[:8]} has no {name}", hint=OLD)
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            raise CheckpointError(f"{path} is truncated or altered: its sha256 is not the one in {MANIFEST}",
                                  hint="bring the run back with mkmed embed import FILE, or publish another run")
        return data

    def arrays(self, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """``(arrays, meta)`` of a safetensors file."""
        return read_arrays(self.bytes_of(name), str(self.folder / name))

    def json(self, name: str) -> Any:
        """The values of a JSON file."""
        return json.loads(self.bytes_of(name))

    def has(self, name: str) -> bool:
        """Whether the artefact has this file."""
        return name in self.files

    def put(self, name: str, data: bytes) -> None:
        """Write a file and note its digest; the manifest follows with ``write``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / name, data)
        self.files[name] = hashlib.sha256(data).hexdigest()

    def put_arrays(self, name: str, arrays: Arrays, meta: Mapping[str, Any] | None = None) -> None:
        """Write arrays and JSON values as a safetensors file."""
        self.put(name, arrays_bytes(arrays, meta))

    def put_json(self, name: str, values: Any) -> None:
        """Write JSON values."""
        self.put(name, json.dumps(values, indent=1).encode())

    def write(self, state: str) -> None:
        """Write the manifest: from here on the files are the run's."""
        self.state = state
        replace_file(self.folder / MANIFEST, self._manifest())

    def config(self) -> PretrainConfig:
        """The configuration that the run was started with."""
        return from_json(self.json("config.json"))

    def fitted(self) -> Fitted:
        """What was fitted on the training drugs."""
        return fitted_state.fitted_of(*self.arrays("fitted.safetensors"))

    def drugs(self) -> RunDrugs:
        """The drugs that the run was trained and measured on."""
        arrays, meta = self.arrays("drugs.safetensors")
        return RunDrugs.from_arrays(arrays, meta["lineage"])

    def weights(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """``(weights, arguments)`` of the model; raises CheckpointError before the run is finished."""
        if not self.sealed:
            raise CheckpointError(f"run {self.folder.name[:8]} is not finished",
                                  hint=f"mkmed embed pretrain --resume {self.folder.name[:8]}")
        return self.arrays("weights.safetensors")


def arrays_bytes(arrays: Arrays, meta: Mapping[str, Any] | None = None) -> bytes:
    """Arrays and JSON values in the safetensors format."""
    whole = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    return safetensors.numpy.save(whole, {"mkmed": json.dumps(meta or {})})


def read_arrays(data: bytes, name: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What ``arrays_bytes`` wrote; raises CheckpointError for anything else."""
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + size])
        return safetensors.numpy.load(data), json.loads(header.get("__metadata__", {}).get("mkmed", "{}"))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{name} is not a safetensors file: {error}") from None


def begin(folder: Path, config: PretrainConfig, run: Mapping[str, Any], drugs: RunDrugs, fitted: Fitted) -> Artefact:
    """The artefact of a run that is about to train, with all that a resumed training must find again."""
    made = Artefact(folder, "open", {}, dict(run))
    made.put_json("config.json", to_json(config))
    made.put_json("run.json", made.run)
    made.put_arrays("drugs.safetensors", drugs.arrays(), {"lineage": drugs.lineage})
    made.put_arrays("fitted.safetensors", *fitted.state())
    made.write("open")
    return made


def is_run(folder: Path) -> bool:
    """Whether the folder holds a finished run of this or of an older release."""
    if (folder / MANIFEST).is_file():
        return json.loads((folder / MANIFEST).read_text()).get("state") == "sealed"
    return (folder / "best.pt").is_file()


def load(folder: Path) -> Artefact:
    """The artefact in a run folder; raises CheckpointError or NotFound with the next step."""
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / "best.pt").is_file():
            return _load_old(folder)
        raise NotFound(f"no run in {folder}", hint="mkmed embed import FILE brings one, mkmed embed pretrain makes one")
    try:
        listed = json.loads(path.read_text())
        files, state = dict(listed["files"]), str(listed["state"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{path} is not a run's manifest", hint="bring the run back with mkmed embed import FILE"
                              ) from None
    if listed.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {listed.get('format')}; this release reads {FORMAT}",
                              hint="update mkmed")
    found = Artefact(folder, state, files)
    found.run = found.json("run.json")
    return found


class OldArtefact(Artefact):
    """A run of release 0.1.0: weights and projections, no split, no vocabulary, no names of properties."""

    def config(self) -> PretrainConfig:
        """The configuration that the run was started with."""
        return from_json(self._tensors()[1]["config"])

    def fitted(self) -> Fitted:
        """The projections; the graph's words and the properties' names were not kept."""
        states = self._tensors()[0].get("extra", {}).get("projections", {})
        return Fitted({name: reduce.projection_of(state) for name, state in states.items()}, closed=True,
                      identities=dict(self.run.get("encoders", {})))

    def drugs(self) -> RunDrugs:
        """Raises CheckpointError: the release did not keep them."""
        raise CheckpointError(f"run {self.folder.name[:8]} is of release 0.1.0, which kept neither split nor drugs",
                              hint="mkmed embed pretrain makes a run that does")

    def weights(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """``(weights, arguments)`` of the model."""
        tensors, meta = self._tensors()
        return {name: value.numpy() for name, value in tensors["model"].items()}, meta["model"]

    def _tensors(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return checkpoint.load_exactly(self.folder / "best.pt")


def _load_old(folder: Path) -> OldArtefact:
    path = folder / "env.json"
    facts = json.loads(path.read_text()) if path.is_file() else {}
    return OldArtefact(folder, "sealed", {}, {"release": "0.1.0", "encoders": facts.get("encoders", {})})


def export_run(artefact: Artefact, path: Path) -> None:
    """Write a finished run as one file (.tar.gz), the same bytes each time; a damaged one raises CheckpointError."""
    if isinstance(artefact, OldArtefact) or not artefact.sealed:
        raise UsageError(f"run {artefact.folder.name[:8]} is not finished, or of a release before 0.2.0",
                         hint="mkmed embed pretrain makes a run that can be exported")
    contents = {MANIFEST: artefact._manifest(), **{name: artefact.bytes_of(name) for name in sorted(artefact.files)}}
    along = [artefact.folder / name for name in TOLD_ALONG]
    contents |= {path.name: path.read_bytes() for path in along if path.is_file()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in contents.items():
            entry = tarfile.TarInfo(f"{artefact.folder.name}/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    import gzip

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0), mode=None)


def import_(path: Path, runs: Path) -> tuple[Artefact, bool]:
    """``(run, new)``: the run that an exported file holds, put below ``runs``; ``new`` is false where it lay there.

    Nothing of the archive is written before all of it was checked. Raises CheckpointError for what is not an exported
    run, and UsageError when another run with this id is there.
    """
    contents, name = _read_archive(path)
    listed = json.loads(contents.get(MANIFEST, b"{}"))
    files = listed.get("files", {})
    if listed.get("format") != FORMAT or listed.get("state") != "sealed" or listed.get("run") != name:
        raise CheckpointError(f"{path} is not an exported run of this release",
                              hint="mkmed embed export RUN writes one")
    for file, digest in files.items():
        if file not in contents or hashlib.sha256(contents[file]).hexdigest() != digest:
            raise CheckpointError(f"{path}: {file} is missing or altered", hint="export the run again")
    folder = runs / name
    made = Artefact(folder, "sealed", dict(files))
    if (folder / MANIFEST).is_file() or (folder / "config.json").is_file():
        there = load(folder)
        if there.digest != made.digest:
            raise UsageError(f"another run {name} lies in {folder}", hint="move it away first")
        return there, False
    for file in (*files, *TOLD_ALONG):
        if file in contents:
            made.folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / file, contents[file])
    made.write("sealed")
    return load(folder), True


def _read_archive(path: Path) -> tuple[dict[str, bytes], str]:
    """The regular files of an archive by name, and the one folder that they lie in."""
    contents: dict[str, bytes] = {}
    folders: set[str] = set()
    if not path.is_file():
        raise NotFound(f"no such file: {path}")
    try:
        with tarfile.open(path, "r:gz") as archive:
            for entry in archive:
                folder, _, name = entry.name.partition("/")
                if not entry.isreg() or not name or "/" in name or name.startswith(".") or entry.size > MOST_BYTES:
                    raise CheckpointError(f"{path} holds {entry.name!r}, which no exported run does")
                stream = archive.extractfile(entry)
                contents[name] = stream.read() if stream else b""
                folders.add(folder)
        uuid.UUID(next(iter(folders), ""))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not an exported run: {error}",
                              hint="mkmed embed export RUN writes one") from None
    if len(folders) != 1:
        raise CheckpointError(f"{path} holds {len(folders)} folders, not one run")
    return contents, folders.pop()
