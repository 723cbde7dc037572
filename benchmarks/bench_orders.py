"""How right orders are read: precision and recall of ingredients on orders labelled by hand, and the time for 10^5.

    python benchmarks/bench_orders.py

Needs no database: the bundled corpus' names and codes are read from its files (``tests/bundled_drugs.py``). The lists
and what they are worth are described in ``tests/data/orders/README.md``.
"""

from __future__ import annotations

import csv
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from record import report

from kb.output import say
from recsys.orders.medications import MedicationMap
from recsys.orders.order import Order
from recsys.orders.resolve import Resolver
from tests.bundled_drugs import drug, resolver

LISTS = Path(__file__).parents[1] / "tests" / "data" / "orders"


def measure(known: Resolver, name: str) -> list[dict[str, Any]]:
    """One row a source of a list."""
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    orders: Counter[str] = Counter()
    with (LISTS / name).open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            wanted = {part[:8] if part.startswith("ATC:") else known.key(drug(part))
                      for part in row["ingredients"].split(" + ") if part != "none"}
            found = known.resolve(Order(name=(row["order"].lower(),), kind=row["kind"] or None))
            got = {key[:8] if key.startswith("ATC:") else key for key in found.keys}
            orders[row["source"]] += 1
            for counter, some in ((right, wanted & got), (wrong, got - wanted), (missed, wanted - got)):
                counter[row["source"]] += len(some)
    return [{"list": name, "source": source, "orders": count, "ingredients": right[source] + missed[source],
             "precision": round(right[source] / max(right[source] + wrong[source], 1), 4),
             "recall": round(right[source] / max(right[source] + missed[source], 1), 4)}
            for source, count in orders.items()]


def seconds(count: int) -> float:
    """CPU seconds to label ``count`` different orders with one class each."""
    with (LISTS / "frequent_orders.tsv").open(encoding="utf-8") as stream:
        texts = [row["order"].lower() for row in csv.DictReader(stream, delimiter="\t")]
    labels = MedicationMap("3", "one", resolver())
    begun = time.process_time()
    for number in range(count):
        labels.label(Order(name=(f"{texts[number % len(texts)]} #{number}",), route="PO"))
    return time.process_time() - begun


def main() -> None:
    """Measure, print, record."""
    known = resolver(keep_vehicles=True)
    rows = [row for name in ("frequent_orders.tsv", "tail_orders.tsv") for row in measure(known, name)]
    took = round(seconds(100_000), 1)
    say(f"100,000 different orders: {took} CPU seconds")
    report("orders", rows, cpu_seconds_for_100000=took)


if __name__ == "__main__":
    main()
