"""How well ``unusual`` tells compounds that are no drugs from held-out drugs, beside simpler measures.

    python benchmarks/bench_unusual.py --smiles chemicals_pubchem_ids.tsv.gz

Needs a published run in MKMED_HOME. ``--smiles`` is a file of compounds whose fifth tab-separated column is a SMILES;
those that the knowledge base has, by the first block of their InChIKey, are left out. Nothing is fitted or chosen here.
Intervals are of a bootstrap over drugs and compounds; differences are paired.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import report

Scores = NDArray[np.float64]
DRAWS = 1000


def other_compounds(path: Path, count: int, known: set[str], seed: int) -> list[str]:
    """SMILES of ``count`` compounds of the file, drawn at random, whose InChIKey's first block is not ``known``."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = [parts[4] for line in data.decode().splitlines() if len(parts := line.split("\t")) > 4]
    found = []
    for at in np.random.default_rng(seed).permutation(len(lines)):
        mol = Chem.MolFromSmiles(lines[at])
        if mol is not None and mol.GetNumAtoms() > 0 and Chem.MolToInchiKey(mol)[:14] not in known:
            found.append(Chem.MolToSmiles(mol))
        if len(found) == count:
            break
    return found


def auroc(usual: Scores, unusual: Scores) -> float:
    """How often a compound that is no drug scores higher than a drug, ties half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([usual, unusual]))[len(usual):]
    return float((ranks.sum() - len(unusual) * (len(unusual) + 1) / 2) / (len(usual) * len(unusual)))


def measures(engine: Any, settings: Any, drugs: list[str], others: list[str]) -> dict[str, tuple[Scores, Scores]]:
    """By name the scores of the drugs and of the others; higher is more unusual."""
    from embed.features import fingerprint
    from embed.runs.found import open_embedder
    from embed.search.predicted import Predictions
    from embed.search.unusual import Reference, tanimoto

    run = open_embedder(engine, settings)
    reference = Reference.of(run.artefact)
    out: dict[str, list[Scores]] = {}
    predictions = Predictions.of(engine, run)
    trained = run.artefact.drugs().side == 0
    for smiles in (drugs, others):
        done, prints = fingerprint.fingerprints(smiles, run.config.molecule.fingerprint_bits or 2048)
        assert len(done) == len(smiles)
        bits = fingerprint.packed_bits(prints, run.config.molecule.fingerprint_bits or 2048)
        told = [reference.molecule(row) for row in bits]
        out.setdefault("unusual, as told", []).append(np.array(told, float))
        out.setdefault("largest Tanimoto similarity to a training drug", []).append(
            -tanimoto(bits, reference.bits).max(1).astype(float))
        weights = np.unpackbits(bits, axis=1).sum(1)
        out.setdefault("number of substructures alone", []).append(-weights.astype(float))
        if predictions is not None:
            rows, foretold = run.foretell(smiles)
            assert len(rows) == len(smiles), "choose compounds that every featuriser reads"
            stored = predictions.stored
            ids = run.artefact.drugs().drug_id[trained]
            near = stored.matrix[np.isin(stored.drug_ids, ids)]
            out.setdefault("largest cosine of predicted vectors to a training drug", []).append(
                -(foretold.wide @ near.T).max(1).astype(float))
            sure = [predictions.sure(foretold, k) for k in range(len(smiles))]
            out.setdefault("minus how sure the prediction is", []).append(-np.array(sure, float))
    return {name: (one, other) for name, (one, other) in out.items()}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smiles", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000, help="compounds that are no drugs")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    from embed.runs.found import load_run
    from embed.search.unusual import FAR
    from kb.db.engine import open_engine
    from kb.query import read as query
    from kb.settings import load_settings

    settings = load_settings()
    engine = open_engine(settings)
    with engine.connect() as connection:
        known = query.drugs(connection)
    run = load_run(engine, settings).drugs()
    held = set(run.drug_id[run.side == 2].tolist())
    drugs = [s for i, s in zip(known.ids.tolist(), known.smiles, strict=True) if s and i in held]
    others = other_compounds(a.smiles, a.count, {key[:14] for key in known.inchikeys if key}, a.seed)
    scores, rng = measures(engine, settings, drugs, others), np.random.default_rng(0)
    picks = [(rng.integers(len(drugs), size=len(drugs)), rng.integers(len(others), size=len(others)))
             for _ in range(DRAWS)]
    drawn = {name: np.array([auroc(one[i], other[j]) for i, j in picks]) for name, (one, other) in scores.items()}
    first = next(iter(scores))
    rows = []
    for name, (one, other) in scores.items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        row = {"measure": name, "AUROC": auroc(one, other), "low": low, "high": high}
        if name == first:
            row |= {"drugs called far": float((one >= FAR).mean()), "others called far": float((other >= FAR).mean())}
        else:
            gain = drawn[first] - drawn[name]
            row |= {"told minus it": auroc(*scores[first]) - row["AUROC"], "gain low": np.quantile(gain, 0.025),
                    "gain high": np.quantile(gain, 0.975)}
        rows.append(row)
    report("unusual", rows, drugs=len(drugs), others=len(others), seed=a.seed)


if __name__ == "__main__":
    main()
