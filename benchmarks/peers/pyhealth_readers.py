"""PyHealth's readers and mkmed's on PyHealth's own test inputs: what each keeps of every table.

Run: ``python benchmarks/peers/pyhealth_readers.py CHECKOUT PYTHON``, where CHECKOUT is a clone of
github.com/sunlabuiuc/PyHealth and PYTHON an interpreter with PyHealth installed (``pip install pyhealth==2.1.0``,
Python 3.12), or with what the checkout's readers need (polars, dask, litdata). Its FHIR and MEDS inputs are written by
its own test fixtures. Imaging and language packages that its package imports, its readers do not use and PYTHON lacks
are stood in for by empty modules. An input that PyHealth has not read after LIMIT seconds is recorded so; each input's
result is written when it is there, to ``benchmarks/results/pyhealth_readers.json``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kb.output import emit

THEIRS = """
import functools, importlib.abc, importlib.machinery, json, sys, types
from pathlib import Path
from unittest.mock import MagicMock

UNUSED = {"torchvision", "peft", "accelerate", "ogb", "mne", "linear_attention_transformer", "transformers", "PIL",
          "torch_geometric", "rdkit", "wfdb"}

class Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in UNUSED else None
    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module
    def exec_module(self, module):
        pass

sys.meta_path.append(Empty())  # for what is not installed

if sys.version_info < (3, 12):  # whose cached properties hold a lock that its threads of dask wait for without end
    class Unlocked(functools.cached_property):
        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            if self.attrname not in instance.__dict__:
                instance.__dict__[self.attrname] = self.func(instance)
            return instance.__dict__[self.attrname]
    functools.cached_property = Unlocked
checkout, form, root, cache = sys.argv[1:]
sys.path.insert(0, checkout + "/tests/core")
sys.path.append(checkout)  # an installed release comes first

if __name__ == "__main__":
    if form == "fhir-fixture":
        import test_fhir_ndjson_fixtures as fixtures
        fixtures.write_two_class_ndjson(Path(root))
    elif form == "meds-fixture":
        import test_meds
        test_meds.write_synthetic_meds(Path(root))
    else:
        from pyhealth import datasets
        from pyhealth.datasets import base_dataset
        base_dataset.in_notebook = lambda: True  # its workers as threads: processes would not see the empty modules
        if form == "mimic4":
            data = datasets.MIMIC4EHRDataset(root=root, tables=["diagnoses_icd", "procedures_icd", "prescriptions"],
                                             cache_dir=cache, num_workers=1)
        elif form == "omop":
            data = datasets.OMOPDataset(root=root, tables=["condition_occurrence", "procedure_occurrence",
                                                           "drug_exposure"], cache_dir=cache, num_workers=1)
        elif form == "eicu":
            data = datasets.eICUDataset(root=root, tables=["diagnosis", "medication", "treatment"], cache_dir=cache,
                                        num_workers=1)
        elif form == "meds":
            data = datasets.MEDSDataset(root=root, cache_dir=cache, num_workers=1)
        else:
            from pyhealth.datasets.fhir.mimic4 import MIMIC4FHIR
            data = MIMIC4FHIR(root=root, cache_dir=cache, num_workers=1, glob_pattern="**/*.ndjson")
        events = data.global_event_df.collect()
        counts = dict(events.group_by("event_type").len().iter_rows())
        from importlib import metadata
        try:
            version = metadata.version("pyhealth")
        except metadata.PackageNotFoundError:
            version = "of the checkout"
        print("\\nCOUNTS" + json.dumps({"version": version, "python": sys.version.split()[0],
                                      "patients": len(data.unique_patient_ids), **counts}))
"""

LIMIT = 300.0
"""Seconds that PyHealth may take for one input."""
INPUTS = {
    "mimic4": "test-resources/core/mimic4demo", "omop": "test-resources/omop", "eicu": "test-resources/core/eicudemo",
    "fhir": "", "meds": "",
}


def ours(form: str, root: Path) -> dict[str, object]:
    """What mkmed's reader makes of an export, or why it refuses it."""
    from kb.errors import MkmedError
    from recsys.formats import FORMATS
    from recsys.formats.contract import Limits

    try:
        found = FORMATS[form].read(root, {"vocabulary": "none"} if form == "omop" else {}, Limits())
    except MkmedError as error:
        return {"refused": str(error)}
    losses: dict[str, dict[str, int]] = {}
    for (table, reason), rows in sorted(found.ledger.losses.items()):
        losses.setdefault(table, {})[reason] = rows
    return {"patients": found.patients, "visits": len(found.visit_patient), "read": dict(found.ledger.rows),
            "left out": losses, "kept": {pairs.table: int(pairs.rows.sum()) for pairs in found.pairs.values()}}


def theirs(python: str, checkout: Path, form: str, root: Path, cache: Path) -> dict[str, object]:
    """PyHealth's patients and events by table, the last line of its error, or that it did not end."""
    script = cache / "theirs.py"
    script.write_text(THEIRS)
    try:
        answer = subprocess.run([python, str(script), str(checkout), form, str(root), str(cache)], capture_output=True,
                                text=True, cwd=cache, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"refused": f"did not finish in {LIMIT:g} s"}
    line = next((line for line in answer.stdout.splitlines() if line.startswith("COUNTS")), "")
    if line:
        return dict(json.loads(line.removeprefix("COUNTS")))
    return {"refused": (answer.stderr.strip().splitlines() or [""])[-1]} if answer.returncode else {}


def main() -> None:
    checkout, python = Path(sys.argv[1]).resolve(), sys.argv[2]
    path = Path(__file__).resolve().parents[1] / "results" / "pyhealth_readers.json"
    results: list[dict[str, object]] = []
    for form, folder in INPUTS.items():
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as made:
            root = checkout / folder if folder else Path(made) / form
            root.mkdir(exist_ok=True)
            failed = {} if folder else theirs(python, checkout, f"{form}-fixture", root, Path(name))
            results.append({"input": form, "reader": "PyHealth",
                            **(failed or theirs(python, checkout, form, root, Path(name)))})
            if not failed:
                results.append({"input": form, "reader": "mkmed", **ours(form, root)})
            path.write_text(json.dumps(results, indent=1) + "\n")
    emit([{"input": row["input"], "reader": row["reader"], "found": json.dumps(
        {key: value for key, value in row.items() if key not in ("input", "reader")})} for row in results])


if __name__ == "__main__":
    main()
