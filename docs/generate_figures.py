"""Writes the README's table of figures from benchmarks/results: ``python docs/generate_figures.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def result(name: str) -> dict[str, Any]:
    """One benchmark's results."""
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return found


def row(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The row with these values."""
    return next(r for r in rows if all(r.get(key) == value for key, value in wanted.items()))


def level_3(rows: list[dict[str, Any]], what: str) -> str:
    """The accuracy at ATC level 3, with its interval where it has one."""
    mean, _, interval = str(row(rows, what=what)["level_3"]).partition(" ")
    low, _, high = interval.strip("()").partition("–")
    return mean if low == high else f"{mean} ({low}–{high})"


def figures() -> list[tuple[str, str, str]]:
    """(what, figure, command) of everything that is quoted."""
    embedding = result("embedding")["rows"]
    store, latency, drkg = result("store")["rows"], result("latency")["rows"], result("drkg")
    exact = row(store, vectors=10000, way="mkmed exact SQL")
    flat = row(store, vectors=10000, way="faiss flat")
    ann = row(store, vectors=100000, way="mkmed HNSW, ef_search 200")
    quality, ours = result("quality")["A"]["rows"], row(latency, recommender="mkmed")
    best, logistic = (row(quality, recommender=name, rule="safe") for name in ("mkmed", "logistic_history"))
    sooner = result("recsys")["plateau"][0]
    peer = sooner["goal"].partition(":")[0].removeprefix("PyHealth ")
    fetch = row(result("pubchem")["rows"], client="mkmed", processes=1)
    first = row(drkg["rows"], what="first ingest")
    return [
        ("neighbours in SQL, 10,000 drugs, exact",
         f"{exact['p50_ms']} ms (median); faiss in memory {flat['p50_ms']} ms", "bench_store.py"),
        ("neighbours in SQL, 100,000 drugs, HNSW",
         f"{ann['p50_ms']} ms (median), recall@10 {ann['recall@10']}", "bench_store.py"),
        (f"{drkg['triples']:,} graph triples of DRKG's shape into PostgreSQL",
         f"{first['seconds']:.0f} s, {first['ratio']:.1f} × a bare COPY with the same indexes", "bench_drkg.py"),
        ("nearest neighbour shares the ATC level-3 class, 1,260 drugs (interval over five seeds)",
         f"{level_3(embedding, 'mkmed, fused → core drugs')}; ECFP4 "
         f"{level_3(embedding, 'ECFP4, Tanimoto → core drugs')}",
         "bench_embedding.py"),
        ("requests to a stand-in for PubChem",
         f"{fetch['of permitted']:.0%} of the permitted rate", "bench_pubchem.py"),
        ("a recommendation, one patient", f"{ours['p50 ms']:.1f} ms (median)", "bench_latency.py"),
        (f"CPU time until {peer}, PyHealth's best model, is matched on 6,350 synthetic patients",
         f"{sooner['mkmed CPU s']:.1f} s; {peer} itself {sooner['its CPU s']:.0f} s", "bench_recsys.py"),
        ("Jaccard on synthetic patients at a DDI rate of 0.06",
         f"{best['jaccard']:.3f} mkmed, {logistic['jaccard']:.3f} logistic regression with history",
         "bench_quality.py"),
    ]


def table() -> str:
    """The table as Markdown."""
    lines = [f"| {what} | {figure} | `python benchmarks/{command}` |" for what, figure, command in figures()]
    return "\n".join([BEGIN, "| what | figure | command |", "|---|---|---|", *lines, END])


def filled(text: str) -> str:
    """The page with its table as it would be now."""
    return re.sub(f"{BEGIN}.*?{END}", lambda _: table(), text, flags=re.DOTALL)


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
