"""What carries over to drugs of unseen scaffolds when only their structure is known, over splits.

    python benchmarks/bench_transfer.py                 # six scaffold splits on the knowledge base of MKMED_HOME
    python benchmarks/bench_transfer.py --splits 2
    python benchmarks/bench_transfer.py --texts ChEBI-20_validation.txt ChEBI-20_test.txt
    python benchmarks/bench_transfer.py --texts ChEBI-20_*.txt --names chemicals_pubchem_ids.tsv.gz \\
        --curve 1000 3000 10000 70000

Needs ``mkmed kb ingest --source corpus`` first, and is better with the extra ``minimol``. Everything is chosen on
validation drugs; figures are of test drugs. Intervals are Student's t over splits of the paired difference. A study
that was stopped, or is asked for more splits, goes on with those that its results file holds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import RESULTS, report

from kb.output import plain, say

Matrix = NDArray[Any]
NEIGHBOURS = (10, 20)
POWERS = (2, 4)
WIDTH = 256
FEW = 1_000


def ranks_of(score: Matrix, group: Matrix) -> Matrix:
    """The rank of each row's own column among columns of other substances, in both directions."""
    rival = group[:, None] != group[None, :]
    return np.concatenate([1 + (~(s < np.diag(s)[:, None]) & rival).sum(1) for s in (score, score.T)])


def recall(a: Matrix, b: Matrix, group: Matrix, hubs: tuple[Matrix, Matrix] | None = None) -> float:
    """Recall@10 of unit vectors ``b`` from predictions ``a`` and back; ``hubs`` are training (truths, predictions)."""
    from embed.features.reduce import unit
    from embed.transfer.head import csls, hubness

    a, b = unit(a), unit(b)
    score = a @ b.T
    if hubs is not None:
        score = csls(score, hubness(a, unit(hubs[0])), hubness(b, unit(hubs[1])))
    return float((ranks_of(score, group) <= 10).mean())


def by_neighbours(similarity: Matrix, train: Matrix, truth: Matrix, k: int, power: int, own: bool = False) -> Matrix:
    """Every drug's vector: the weighted mean of its ``k`` nearest training drugs'; ``own`` leaves itself out."""
    table = similarity[:, train].copy()
    if own:
        table[train, np.arange(len(train))] = -1
    at = np.argpartition(-table, k, 1)[:, :k]
    weight = np.maximum(np.take_along_axis(table, at, 1), 0) ** power + 1e-9
    out: Matrix = np.einsum("nk,nkd->nd", weight / weight.sum(1, keepdims=True), truth[train][at])
    return out


def probe(features: Matrix, labels: Matrix, side: Matrix) -> float:
    """Macro AUROC on test drugs of a linear (ridge) probe a label; its penalty is chosen on validation drugs."""
    from sklearn.metrics import roc_auc_score

    train = side == 0
    mean, spread = features[train].mean(0), features[train].std(0).mean() + 1e-9
    x = (features - mean) / spread
    gram, right = x[train].T @ x[train], x[train].T @ (labels[train] - labels[train].mean(0))

    def score(weights: Matrix, part: int) -> float:
        rows = side == part
        kept = [k for k in range(labels.shape[1]) if 0 < labels[rows, k].sum() < rows.sum()]
        return float(np.mean([roc_auc_score(labels[rows, k], x[rows] @ weights[:, k]) for k in kept]))

    tried = [np.linalg.solve(gram + penalty * np.eye(len(gram)), right) for penalty in (10.0, 100.0, 1000.0)]
    return score(max(tried, key=lambda weights: score(weights, 1)), 2)


def one_split(seed: int, shared: dict[str, Any]) -> dict[tuple[str, str], float]:
    """All figures of one scaffold split."""
    import torch

    from embed.evaluation.baselines import standardised
    from embed.evaluation.classes import cosine, nearest_class
    from embed.evaluation.pairs import interaction_auroc
    from embed.features.reduce import unit
    from embed.training.foretell import take_head
    from embed.training.job import prepare_training
    from embed.training.split import sides
    from embed.transfer.kernel import bit_tanimoto, count_tanimoto

    config = shared["config"]
    config = replace(config, seed=seed, train=replace(config.train, split=seed))
    prepared = prepare_training(shared["engine"], config, shared["cache"], torch.device("cpu"))
    corpus, rows, mols = prepared.corpus, shared["rows"], shared["molecules"]
    whole = sides(prepared.split, len(corpus))
    side, group = whole[rows], prepared.inputs.data.group.numpy()[rows]
    nothing = np.zeros((len(corpus), 2), np.float32)

    def fitted(**changes: Any) -> Any:
        own = replace(config, transfer=replace(config.transfer, **changes))
        found = take_head(corpus, prepared.inputs, nothing, whole, own, shared["cache"])
        assert found is not None
        return found

    heads = {"transfer head": fitted(), f"transfer head, {FEW:,} landmarks": fitted(landmarks=FEW)}
    if shared["pairs"]:
        heads["transfer head, with texts of molecules that are no drugs"] = fitted(pairs=shared["pairs"])
    head = heads["transfer head"]
    out: dict[tuple[str, str], float] = {}
    answers = []
    for name, one in heads.items():
        start = time.process_time()
        answers.append((name, one, one.foretell(mols)))
        out["molecules a CPU second, after featurising", name] = len(mols) / (time.process_time() - start)
    foretold = answers[0][2]
    counted, bits = count_tanimoto(mols.counts, mols.counts), bit_tanimoto(mols.counts, mols.counts)
    for kind in ("text", "graph"):
        matrix, place = prepared.inputs.raw[kind]
        at = place[rows]
        truth = unit(np.where((at >= 0)[:, None], matrix[at.clip(min=0)], 0).astype(np.float32))
        train, valid, test = (np.flatnonzero((side == k) & (at >= 0)) for k in range(3))
        near = {(k, p): by_neighbours(counted, train, truth, k, p, own=True) for k in NEIGHBOURS for p in POWERS}
        best = max(near, key=lambda key: recall(near[key][valid], truth[valid], group[valid]))
        ours, part = foretold.vectors[kind], group[test]
        for name, made in (("nearest drugs' mean (kNN regression)", near[best]),
                           *((name, told.vectors[kind]) for name, _, told in answers)):
            out[f"molecule → {kind}", name] = recall(made[test], truth[test], part)
            hubs = (truth[train], made[train])
            out[f"molecule → {kind}", f"{name}, hubs corrected"] = recall(made[test], truth[test], part, hubs)
        agree = (unit(ours[test]) * truth[test]).sum(1)
        from scipy.stats import spearmanr

        out["how sure", f"{kind}: rank correlation of sure and cosine"] = float(
            spearmanr(foretold.agreement[kind][test], agree)[0])
        out["how sure", f"{kind}: mean of sure minus mean cosine"] = float(
            foretold.agreement[kind][test].mean() - agree.mean())
    _classes(out, shared, side, group, foretold, bits, head, standardised, cosine, nearest_class)
    held = side == 2
    parts = {"ECFP4": components(unit(_dense_bits(mols)), side), "predicted vector": foretold.wide}
    if head.network:
        parts["minimol"] = components(head.kernel.network.apply(mols.network), side)
        parts["ECFP4 and minimol"] = components(np.concatenate([
            unit(_dense_bits(mols)), unit(head.kernel.network.apply(mols.network))], 1), side)
    for name, features in parts.items():
        out["targets, linear probe, AUROC", name] = probe(features, shared["targets"], side)
        if seed < shared["pairs_of"]:
            score = interaction_auroc(features, shared["interactions"], held, seed, matched=True)
            out["interactions, degree-matched, AUROC", name] = score.auroc
    return out


def _dense_bits(mols: Any) -> Matrix:
    return (mols.counts.toarray() > 0).astype(np.float32)


def components(matrix: Matrix, side: Matrix) -> Matrix:
    """The leading ``WIDTH`` principal components of the training rows, for all rows."""
    from embed.evaluation.rivals import reduced

    return reduced(matrix.astype(np.float32), np.flatnonzero(side == 0), WIDTH)


def _classes(out: dict[tuple[str, str], float], shared: dict[str, Any], side: Matrix, group: Matrix, foretold: Any,
             bits: Matrix, head: Any, standardised: Any, cosine: Any, nearest_class: Any) -> None:
    codes = shared["codes"]
    pool = np.flatnonzero(shared["core"] & np.array([bool(own) for own in codes]) & (side >= 0))
    square = np.ix_(pool, pool)
    alike = {"ECFP4": bits[square]}
    if head.network:
        alike["minimol"] = cosine(head.kernel.network.apply(shared["molecules"].network[pool]))
    for kind in ("text", "graph"):
        alike[kind] = cosine(foretold.vectors[kind][pool] - head.targets[kind].mean)
    sums = {"ECFP4": ("ECFP4",), "foretold text and graph": ("text", "graph")}
    if head.network:
        sums |= {"minimol": ("minimol",), "ECFP4 and minimol": ("ECFP4", "minimol"),
                 "ECFP4, minimol, foretold text and graph": ("ECFP4", "minimol", "text", "graph")}
    tables = {name: sum(standardised(alike[part]) for part in parts) for name, parts in sums.items()}
    tables["predicted vector"] = cosine(foretold.wide[pool])
    traits = foretold.traits.take(pool)
    tables["as search compares"] = head.alike(traits, traits)
    for name, table in tables.items():
        found = nearest_class(table, [codes[i] for i in pool], [str(g) for g in group[pool]], queries=side[pool] == 2)
        out["1-NN, ATC level 3", name] = found.accuracy[3]


def target_labels(engine: Any, drug_ids: Matrix, least: int = 15) -> Matrix:
    """Which drugs [N] have which DrugCentral targets [T]; targets of at least ``least`` drugs."""
    from sqlalchemy import text

    with engine.connect() as connection:
        told = connection.execute(text("SELECT DISTINCT drug_id, target FROM mkmed.drug_targets"
                                       " WHERE relation = 'DrugCentral::target::Compound:Gene'")).all()
    place = {int(i): k for k, i in enumerate(drug_ids)}
    members: dict[str, list[int]] = defaultdict(list)
    for drug_id, target in told:
        if drug_id in place:
            members[target].append(place[drug_id])
    kept = sorted(t for t, own in members.items() if len(own) >= least)
    out = np.zeros((len(drug_ids), len(kept)), np.float32)
    for k, target in enumerate(kept):
        out[members[target], k] = 1
    return out


def summarise(found: Sequence[dict[tuple[str, str], float]]) -> list[dict[str, Any]]:
    """One row a figure: mean and interval over splits, and the paired difference to the part's baseline."""
    from embed.evaluation.intervals import over_seeds

    rows = []
    for part, name in found[0]:
        members = [one for one in found if (part, name) in one]
        base = {"molecule → text": "nearest drugs' mean (kNN regression)",
                "molecule → graph": "nearest drugs' mean (kNN regression)"}.get(part, "ECFP4")
        if "hubs" in name:
            base += ", hubs corrected"
        mean, low, high = over_seeds([one[part, name] for one in members])
        row = {"part": part, "what": name, "splits": len(members), "mean": mean, "low": low, "high": high}
        if (part, "minimol") in found[0] and name != "minimol":
            row["over minimol"], row["over minimol low"], row["over minimol high"] = over_seeds(
                [one[part, name] - one[part, "minimol"] for one in members])
        if (part, base) in found[0] and name != base:
            row["against"] = base
            row["gain"], row["gain low"], row["gain high"] = over_seeds(
                [one[part, name] - one[part, base] for one in members])
        rows.append(row)
    return rows


def curve(shared: dict[str, Any], sizes: Sequence[int], splits: int, named: Path | None) -> list[dict[str, Any]]:
    """Recall@10 between molecule and text of test drugs over the number of training molecules, and the log-log slope.

    Training molecules are the training drugs first, then ``shared["pairs"]``, then compounds of ``named`` with their
    names as text; none is a drug or shares a scaffold with a held-out one. MiniMol, hours for 70,000, is left out.
    """
    import torch

    from embed.evaluation.intervals import over_seeds
    from embed.features.reduce import unit
    from embed.training.foretell import BITS, with_pairs
    from embed.training.job import prepare_training
    from embed.training.pairs import read_pairs, unknown_pairs
    from embed.training.split import sides
    from embed.transfer import molecules
    from embed.transfer.fit import TransferDrugs, fit_head

    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    slopes = []
    for seed in range(splits):
        config = replace(shared["config"], seed=seed, train=replace(shared["config"].train, split=seed))
        prepared = prepare_training(shared["engine"], config, shared["cache"], torch.device("cpu"))
        corpus, side = prepared.corpus, sides(prepared.split, len(prepared.corpus))
        rows = np.array([r for r, s in enumerate(corpus.smiles) if s], np.int64)
        read, mols = molecules.read([corpus.smiles[r] or "" for r in rows], shared["cache"], bits=BITS, network=False)
        rows = rows[read]
        text, has = prepared.inputs.raw_of(rows)["text"]
        told = np.flatnonzero(has & (side[rows] >= 0))
        rows, group = rows[told], prepared.inputs.data.group.numpy()[rows[told]]
        drugs = TransferDrugs(mols.take(told), group, [corpus.names[r] for r in rows], side[rows])
        truths = {"text": (text[told].astype(np.float32), np.ones(len(told), bool))}
        held_out = [corpus.smiles[r] or "" for r in rows[side[rows] > 0]]
        pairs = [pair for path in shared["pairs"] for pair in read_pairs(Path(path))]
        pairs += compounds_with_names(named) if named else []
        own = int((drugs.side == 0).sum())
        pairs = unknown_pairs(pairs, {b for b in corpus.blocks if b}, held_out, shared["cache"])
        points = []
        for size in sizes:
            drawn = np.random.default_rng(seed).permutation(np.flatnonzero(drugs.side == 0))[size:]
            part = replace(drugs, side=np.where(np.isin(np.arange(len(rows)), drawn), -1, drugs.side).astype(np.int8))
            more = pairs[:max(0, size - own)]
            whole, truth = with_pairs(part, truths, more, prepared.inputs, config, shared["cache"])
            head = fit_head(whole, truth, width=WIDTH, encoder=None, seed=seed)
            assert head is not None
            test, here = np.flatnonzero(drugs.side == 2), int((whole.side == 0).sum())
            kind = head.targets["text"]
            got = recall(head.foretell(drugs.molecules.take(test)).vectors["text"], unit(truths["text"][0][test]),
                         group[test], (kind.truth, kind.foretold))
            found[size, here].append(got)
            points.append((here, got))
            say(f"split {seed}, {here:,} molecules: recall@10 {got:.3f}")
        if len({here for here, _ in points}) > 1:
            x, y = np.log10([h for h, _ in points]), np.log10([1 - g for _, g in points])
            slopes.append(float(np.polyfit(x, y, 1)[0]))
    out = []
    by_size: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for (size, here), got in found.items():
        by_size[size] += [(here, one) for one in got]
    for size, members in by_size.items():
        mean, low, high = over_seeds([one for _, one in members])
        out.append({"asked for": size, "training molecules": int(np.mean([h for h, _ in members])),
                    "recall@10": mean, "low": low, "high": high})
    slope, low, high = over_seeds(slopes)
    return [*out, {"slope of log(1 - recall@10) over log(molecules)": slope, "low": low, "high": high}]


def compounds_with_names(path: Path) -> list[tuple[str, str]]:
    """(SMILES, its names as a text) of a file of PubChem compounds: what stands for texts where there are none."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = (line.split("\t") for line in data.decode().splitlines())
    return [(parts[4], "; ".join(parts[7:11])) for parts in lines if len(parts) > 7 and parts[7]]


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=5, help="splits in which interactions are probed")
    parser.add_argument("--set", action="append", default=[], dest="sets", help="a setting, e.g. transfer.encoder=none")
    parser.add_argument("--texts", nargs="+", default=[],
                        help="files of SMILES and descriptions of molecules that are no drugs, e.g. ChEBI-20's")
    parser.add_argument("--curve", type=int, nargs="+", default=[], metavar="N",
                        help="instead: quality over so many training molecules, those of --texts after the drugs")
    parser.add_argument("--names", help="for --curve, a file of compounds with SMILES (column 5) and names (from 8)")
    parser.add_argument("--name", default="transfer", help="of the file under benchmarks/results")
    arguments = parser.parse_args()

    from embed.config import load_config
    from embed.evaluation.labels import read_labels
    from embed.features.cache import FeatureCache
    from embed.source import read_corpus
    from embed.training.foretell import BITS, chosen_encoder
    from embed.transfer import molecules
    from kb.db.engine import open_engine
    from kb.settings import load_settings

    settings = load_settings()
    engine, cache = open_engine(settings), FeatureCache(settings.cache / "features")
    config = load_config(None, ["modalities=text,graph", "graph.features=neighbourhood", "loss.relation=0",
                                *arguments.sets])
    corpus = read_corpus(engine, exclude_types=config.graph.exclude_types, exclude_relations=config.graph.exclude)
    rows = np.array([row for row, text in enumerate(corpus.smiles) if text], np.int64)
    encoder = chosen_encoder(config.transfer)
    texts = [corpus.smiles[row] or "" for row in rows]
    read, mols = molecules.read(texts, cache, bits=BITS, network=encoder is not None)
    rows = rows[read]
    labels = read_labels(engine, corpus.drug_ids).take(rows)
    shared = {"engine": engine, "cache": cache, "config": config, "rows": rows, "molecules": mols, "core": labels.core,
              "codes": labels.codes, "interactions": labels.interactions, "pairs_of": arguments.pairs,
              "pairs": tuple(arguments.texts),
              "targets": target_labels(engine, corpus.drug_ids[rows])}
    if arguments.curve:
        named = Path(arguments.names) if arguments.names else None
        rows = curve(shared, arguments.curve, arguments.splits, named)
        report(f"{arguments.name}_curve", rows, texts=[Path(path).name for path in arguments.texts],
               names=named.name if named else None)
        return
    about = {"encoder": encoder, "molecules": len(mols), "targets": shared["targets"].shape[1],
             "pair_splits": arguments.pairs, "texts": [Path(path).name for path in arguments.texts],
             "sets": arguments.sets}
    found = kept_splits(arguments.name, about)

    def write(shown: bool) -> None:
        each = [[[part, name, value] for (part, name), value in one.items()] for one in found]
        report(arguments.name, summarise(found[:arguments.splits]), shown=shown, **about, each=each)

    for seed in range(len(found), arguments.splits):
        found.append(one_split(seed, shared))
        say(f"split {seed} is done")
        write(shown=False)
    write(shown=True)


def kept_splits(name: str, about: dict[str, Any]) -> list[dict[tuple[str, str], float]]:
    """The splits that the results file holds, where they were measured on the same; a stopped study goes on so."""
    path = RESULTS / f"{name}.json"
    last = json.loads(path.read_text()) if path.is_file() else {}
    if any(last.get(key) != value for key, value in plain(about).items()):
        return []
    return [{(part, name): value for part, name, value in one} for one in last.get("each", [])]


if __name__ == "__main__":
    main()
