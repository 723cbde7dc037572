"""What it costs to read an EHR export of MIMIC's size: rows a second and peak memory, beside pandas on the same file.

Run: ``python benchmarks/bench_prepare.py [rows of prescriptions ...]``. An export in MIMIC-IV's layout is written to a
temporary folder (1, 4 and 20 million prescriptions; MIMIC-III has 4.2, MIMIC-IV 20.3 million), then read by the
``mimic4`` format, and its prescriptions alone by ``pandas.read_csv`` with ``drop_duplicates``, each in a process of its
own. The floor is ``csv.reader`` going over the prescriptions once and doing nothing.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kb.output import emit


def write_export(root: Path, rows: int) -> None:
    """An export with ``rows`` prescriptions, 38 an admission as in MIMIC-IV, a fifth of them identical duplicates."""
    rng = np.random.default_rng(0)
    visits = max(rows // 38, 1)
    patients = max(visits // 2, 1)
    hadm = rng.permutation(visits) + 20_000_000
    owner = rng.integers(patients, size=visits) + 10_000_000
    drugs = [f"Drug {i % 997} {i % 13} mg Tablet" for i in range(4000)]
    lines = (f"{owner[v]},{hadm[v]},21{v % 90 + 10}-0{v % 9 + 1}-11 0{v % 10}:15:00\n" for v in range(visits))
    (root / "admissions.csv").write_text("subject_id,hadm_id,admittime\n" + "".join(lines))
    with (root / "prescriptions.csv").open("w") as file:
        file.write("subject_id,hadm_id,pharmacy_id,poe_id,starttime,stoptime,drug_type,drug,gsn,ndc,form_rx,route\n")
        for start in range(0, rows, 200_000):
            size = min(200_000, rows - start)
            visit = np.sort(rng.integers(visits, size=size))
            drug = rng.zipf(1.3, size) % 4000
            file.writelines(
                f"{owner[v]},{hadm[v]},{start + i},{start + i}-1,2150-01-01 10:00:00,2150-01-02 10:00:00,MAIN,"
                f"{drugs[d]},{d:06d},{d * 7919 % 10**10 + 10**9:011d},TAB,{'PO' if d % 3 else 'IV'}\n"
                for i, (v, d) in enumerate(zip(visit.tolist(), drug.tolist(), strict=True)))
    for table, share in (("diagnoses_icd", 11), ("procedures_icd", 2)):
        visit = np.repeat(np.arange(visits), share)
        code = rng.integers(1000, 9999, len(visit))
        lines = (f"{owner[v]},{hadm[v]},1,{c},9\n" for v, c in zip(visit.tolist(), code.tolist(), strict=True))
        (root / f"{table}.csv").write_text("subject_id,hadm_id,seq_num,icd_code,icd_version\n" + "".join(lines))


def ours(root: Path) -> int:
    from recsys.formats import FORMATS
    from recsys.formats.contract import Limits

    recorded = FORMATS["mimic4"].read(root, {}, Limits())
    return sum(recorded.ledger.rows.values())


def pandas_alone(root: Path) -> int:
    import pandas as pd

    columns = ["hadm_id", "ndc", "drug", "route"]
    table = pd.read_csv(root / "prescriptions.csv", usecols=columns, dtype=str)
    table.drop_duplicates()
    return len(table)


def floor(root: Path) -> int:
    with (root / "prescriptions.csv").open(newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


READERS = {"mkmed, all five tables": ours, "pandas, prescriptions": pandas_alone, "csv.reader, prescriptions": floor}


def measured(reader: str, root: Path) -> dict[str, float]:
    """CPU seconds and peak memory of a reader in a process of its own."""
    command = [sys.executable, __file__, "--read", reader, str(root)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=one_thread)
    return json.loads(answer.stdout)


def main() -> None:
    if sys.argv[1:2] == ["--read"]:
        start = time.process_time()
        rows = READERS[sys.argv[2]](Path(sys.argv[3]))
        status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
        print(json.dumps({"rows": rows, "cpu_s": time.process_time() - start, "peak_mib": peak}))
        return
    results = []
    for size in [int(text) for text in sys.argv[1:]] or [1_000_000, 4_000_000, 20_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            write_export(Path(folder), size)
            mib = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
            found = {reader: measured(reader, Path(folder)) for reader in READERS}
        pandas = found["pandas, prescriptions"]
        for reader, got in found.items():
            results.append({
                "prescriptions": size, "export MiB": round(mib), "reader": reader, "CPU s": round(got["cpu_s"], 2),
                "rows/s": round(got["rows"] / got["cpu_s"]), "peak MiB": round(got["peak_mib"]),
                "times faster than pandas": round(pandas["cpu_s"] / got["cpu_s"], 2),
                "memory of pandas": round(got["peak_mib"] / pandas["peak_mib"], 2),
            })
    emit(results)
    path = Path(__file__).parent / "results" / "prepare.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
