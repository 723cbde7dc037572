"""Cohorts on the user's disk: ``<home>/cohorts/<name>/{cohort.npz, cohort.json}``, readable by the user alone."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kb.duck import SPILL_PREFIX
from kb.errors import DataError, NotFound, UsageError
from kb.files import replace_file, written
from kb.output import plain
from kb.settings import Settings, load_settings
from recsys.cohorts.cohort import KINDS, UNKNOWN_TIME, Attribute, Cohort, Loss, Ragged, Vocabulary

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def cohorts_folder(settings: Settings | None = None) -> Path:
    """The only folder that patient data is ever written to."""
    return (settings or load_settings()).home / "cohorts"


def private_cohorts_folder(settings: Settings | None = None) -> Path:
    """The folder of the cohorts, made for the user alone, without what a killed run left to spill."""
    folder = cohorts_folder(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in folder.glob(f"{SPILL_PREFIX}*"):
        import psutil

        process = left.name.removeprefix(SPILL_PREFIX).partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    return folder


def _folder(name: str, settings: Settings | None) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no cohort name", hint="letters, digits, '.', '_' and '-', at most 64")
    return cohorts_folder(settings) / name


def _own(folder: Path) -> Path:
    """The folder, made where it is missing, its owner's alone like the one above it."""
    for path in (folder.parent, folder):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)
    return folder


def _small(values: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers, none below zero, in the narrowest type that holds them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _table(arrays: Mapping[str, NDArray[Any]], kind: str) -> Ragged:
    """A ragged table as ``save_cohort`` writes it, or as releases before 0.2 did."""
    if f"{kind}_indptr" in arrays:
        return Ragged(arrays[f"{kind}_indptr"], arrays[f"{kind}_values"])
    lengths = arrays[f"{kind}_lengths"]
    indptr = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=indptr[1:])
    return Ragged(indptr, arrays[f"{kind}_values"].astype(np.int32))


def _times(arrays: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64] | None]:
    """The patient, the time and, where the source says it, the end of every visit."""
    if "visit_time" in arrays:  # releases before 0.2
        return arrays["visit_patient"], arrays["visit_time"], arrays.get("visit_end")
    patient = np.repeat(np.arange(len(arrays["visits"]), dtype=np.int32), arrays["visits"])
    time = arrays["time"].astype(np.int64) + arrays.get("first", 0)
    end = arrays.get("visit_end")
    return patient, time, end if end is None or end.dtype == np.int64 else time + end.astype(np.int64)


def save_cohort(cohort: Cohort, settings: Settings | None = None) -> Path:
    """Write a cohort and return its folder; an older cohort of the same name is replaced."""
    folder = _own(_folder(cohort.name, settings))
    arrays = {"visits": _small(np.bincount(cohort.visit_patient, minlength=cohort.patients)), "time": cohort.visit_time}
    if cohort.visits:
        arrays |= {"time": _small(cohort.visit_time - cohort.visit_time.min()), "first": cohort.visit_time.min()}
    tables = dict(cohort.codes) if cohort.ordered is None else {**cohort.codes, "ordered": cohort.ordered}
    for kind, table in tables.items():
        arrays |= {f"{kind}_lengths": _small(table.lengths), f"{kind}_values": _small(table.values)}
    if cohort.visit_end is not None:
        arrays["visit_end"] = cohort.visit_end
        stays = cohort.visit_end - cohort.visit_time  # of an end that is not known: far below zero, or wrapped around
        if cohort.visits and (cohort.visit_end != UNKNOWN_TIME).all() and stays.min() >= 0:
            arrays["visit_end"] = _small(stays)
    for name, attribute in cohort.attributes.items():
        narrow = len(attribute.levels) < 127
        arrays[f"attribute_{name}"] = attribute.values.astype(np.int8) if narrow else attribute.values
    with written(folder / "cohort.npz") as path, path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # packing would take longer than reading the export
    document = {
        "name": cohort.name,
        "fingerprint": asdict(cohort.fingerprint),
        "vocabularies": {kind: list(cohort.vocabularies[kind].codes) for kind in KINDS},
        "ordered_pairs": [list(pair) for pair in cohort.ordered_pairs],
        "attributes": {name: list(attribute.levels) for name, attribute in cohort.attributes.items()},
        "accounting": [asdict(loss) for loss in cohort.accounting],
        "provenance": plain(cohort.provenance),
    }
    replace_file(folder / "cohort.json", json.dumps(document, ensure_ascii=False, indent=1).encode())
    return folder


def load_cohort(name: str, settings: Settings | None = None) -> Cohort:
    """The cohort of that name; raises NotFound, or DataError when its files were altered."""
    folder = _folder(name, settings)
    if not (folder / "cohort.json").exists():
        known = ", ".join(list_cohorts(settings)) or "none yet"
        raise NotFound(f"there is no cohort {name!r}", hint=f"mkmed recsys prepare; known: {known}")
    document = json.loads((folder / "cohort.json").read_text())
    try:
        with np.load(io.BytesIO((folder / "cohort.npz").read_bytes()), allow_pickle=False) as arrays:
            patient, time, end = _times(arrays)
            cohort = Cohort(
                name=document["name"],
                visit_patient=patient,
                visit_time=time,
                codes={kind: _table(arrays, kind) for kind in KINDS},
                vocabularies={kind: Vocabulary(tuple(document["vocabularies"][kind])) for kind in KINDS},
                accounting=tuple(Loss(**row) for row in document["accounting"]),
                provenance=document["provenance"],
                ordered=_table(arrays, "ordered") if "ordered_values" in arrays else None,
                ordered_pairs=tuple((label, key) for label, key in document.get("ordered_pairs", ())),
                visit_end=end,
                attributes={name: Attribute(tuple(levels), arrays[f"attribute_{name}"].astype(np.int16))
                            for name, levels in document.get("attributes", {}).items()},
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise DataError(f"cohort {name!r}: its files cannot be read", hint="run mkmed recsys prepare again") from None
    if cohort.fingerprint.sha256 != document["fingerprint"]["sha256"]:
        raise DataError(f"cohort {name!r}: arrays and description differ", hint="run mkmed recsys prepare again")
    return cohort


def private_folder(name: str, kind: str, settings: Settings | None = None) -> Path:
    """A folder beside a cohort's arrays for what is told of each of its patients, made where it is missing."""
    return _own(_own(_folder(name, settings)) / kind)


def list_cohorts(settings: Settings | None = None) -> list[str]:
    """The names of the cohorts on this disk, sorted."""
    return sorted(path.parent.name for path in cohorts_folder(settings).glob("*/cohort.json"))
