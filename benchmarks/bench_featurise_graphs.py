"""Molecular graphs per CPU second on one core, beside ``torch_geometric.utils.from_smiles`` on the same SMILES.

Run: ``python benchmarks/bench_featurise_graphs.py [--quick]``. Both give the same nine atom and three bond features;
equality is checked on every molecule first. The floor is RDKit's parser alone. Rounds alternate; medians are shown.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import statistics
import time
from collections.abc import Callable

from record import report

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rdkit import Chem
from torch_geometric.utils import from_smiles

from embed.features.molecule import featurise
from mkmed.demo.paths import data_path

TARGET = 1.7


def drugs() -> list[str]:
    """The SMILES of the bundled corpus's drugs that have a text, i.e. its core and extended tiers."""
    with gzip.open(data_path("drugs.tsv.gz"), "rt") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row["smiles"] for row in rows if row["smiles"] and Chem.MolFromSmiles(row["smiles"])][:3000]


def check(smiles: list[str]) -> None:
    """Fail unless every graph is the one that torch_geometric makes."""
    done, items = featurise(smiles, fragments=False)
    assert len(done) == len(smiles)
    for row, text in enumerate(smiles):
        one, other = items.take(np.array([row])), from_smiles(text)
        ends = one.columns["bond.ends"].astype(int)
        both = np.concatenate([ends, ends[:, ::-1]])
        order = np.lexsort((both[:, 1], both[:, 0]))
        assert np.array_equal(one.columns["atom.x"], other.x.numpy()), text
        assert np.array_equal(both[order].T, other.edge_index.numpy()), text
        assert np.array_equal(np.concatenate([one.columns["bond.x"]] * 2)[order], other.edge_attr.numpy()), text


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Check, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="500 molecules and 3 rounds")
    quick = parser.parse_args().quick
    smiles = drugs()[:500 if quick else None]
    check(smiles)
    work: dict[str, Callable[[], object]] = {
        "RDKit parser alone (floor)": lambda: [Chem.MolFromSmiles(s) for s in smiles],
        "torch_geometric from_smiles": lambda: [from_smiles(s) for s in smiles],
        "mkmed graphs": lambda: featurise(smiles, fragments=False),
        "mkmed graphs with BRICS fragments": lambda: featurise(smiles),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(3 if quick else 7):
        for name, run in work.items():
            times[name].append(seconds(run))
    middle = {name: statistics.median(values) for name, values in times.items()}
    peer = middle["torch_geometric from_smiles"]
    rows = [{"what": name, "molecules": len(smiles), "molecules/s per core": len(smiles) / value,
             "microseconds each": value / len(smiles) * 1e6, "ratio to from_smiles": peer / value}
            for name, value in middle.items()]
    report("featurise_graphs", rows, target=f"at least {TARGET} x from_smiles", checked_equal=len(smiles))


if __name__ == "__main__":
    main()
