"""PubChem's bulk files, part by part: how they are split, and what is a compound and what a reason."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kb import sdf
from kb.errors import DataError
from kb.sources.pubchem import bulk as pubchem_files
from kb.sources.pubchem.bulk import bulk_lines, parse_flat, parse_line
from kb.sources.pubchem.proof import Compound

SAMPLE = Path(__file__).parents[1] / "data" / "pubchem_bulk" / "Compound_sample.sdf.gz"
PARTS = [part for part in gzip.decompress(SAMPLE.read_bytes()).split(b"$$$$\n") if part]


def split(data: bytes, longest: int = sdf.LONGEST) -> list[bytes | None]:
    return [raw.data for raw in sdf.split(io.BytesIO(data), longest)]


def flat(part: bytes, closed: bool = True) -> Compound:
    return parse_flat(sdf.Raw(1, part, closed))


@given(st.lists(st.text("ab $\n", min_size=1).filter(lambda t: "$$$$" not in t and t.strip())))
def test_records_are_split_at_lines(parts: list[str]) -> None:
    parts = [part.rstrip("\n$") + "x\n" for part in parts]
    data = "".join(f"{part}$$$$\n" for part in parts).encode()
    assert split(data) == [part.encode() for part in parts]
    assert split(data.removesuffix(b"\n")) == [part.encode() for part in parts]


def test_a_record_or_line_without_end_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubchem_files, "LONGEST", 100)
    assert split(b"a\n$$$$\n" + b"y" * 999 + b"\n$$$$\nb\n$$$$\n", 100) == [b"a\n", None, b"b\n"]
    assert split(b"a\n$$$$\n" + b"y" * 999, 100) == [b"a\n", None]
    stream: Any = io.BufferedReader(io.BytesIO(b"1\ta\n" + b"z" * 999 + b"\n2\tb"))  # type: ignore[arg-type]
    assert list(bulk_lines(stream)) == [b"1\ta", None, b"2\tb"]


def test_a_last_record_that_is_cut_off_is_refused_wherever_it_is_cut() -> None:
    whole = flat(PARTS[0])
    ends = [at for at in range(0, len(PARTS[0]), 97) if not PARTS[0][:at].endswith(b"\n\n")]
    for end in ends:
        with pytest.raises(DataError):
            flat(PARTS[0][:end], closed=False)
    assert flat(PARTS[0], closed=False) == whole, "its last item is whole, so it is"
    for cut in (b"$", b"$$", b"$$$", b"$$$$"):
        assert [raw.closed for raw in sdf.split_bytes(PARTS[0] + cut)] == [True]


def test_a_record_as_pubchem_has_it() -> None:
    compounds = [flat(part) for part in PARTS]
    assert len(compounds) == 48 and [c.cid for c in compounds] == sorted({c.cid for c in compounds})
    first = compounds[0]
    assert (first.cid, first.formula, first.units) == (29, "C3H5NO3", 1)
    assert all(c.inchikey and c.smiles and c.values["mol_weight"] > c.values["exact_mass"] * 0.9 for c in compounds)
    theirs = [re.sub(rb">  (<\w+>)  \(\d+\) ?", rb"> \1", part) for part in PARTS]
    assert theirs != PARTS and [flat(part) for part in theirs] == compounds


def changed(find: bytes, put: bytes) -> bytes:
    assert find in PARTS[0]
    return PARTS[0].replace(find, put)


CID = PARTS[0].split(b"\n", 1)[0]
KEY = PARTS[0].split(b"<PUBCHEM_IUPAC_INCHIKEY>")[1].split(b"\n")[1]
BROKEN: dict[str, tuple[bytes, str]] = {
    "header": (b"99" + PARTS[0], "headed"),
    "end": (changed(b"M  END", b"M  ENX"), "no M  END"),
    "counts": (changed(b"V2000", b"V9000"), "counts line"),
    "key": (changed(KEY, KEY[:-3]), "InChIKey"),
    "another key": (changed(KEY, b"BSYNRYMUTXBXSQ-UHFFFAOYSA-N"), "not that of the SMILES"),
    "cid": (changed(b"PUBCHEM_COMPOUND_CID", b"PUBCHEM_OTHER"), "not a pubchem.compound"),
    "number": (PARTS[0].replace(b"TPSA>", b"TPSA>\nx\n\n>  <Z>"), "TPSA: 'x' is not a decimal number"),
    "utf-8": (PARTS[0] + b"\xff", "UTF-8"),
    "empty": (b"", "empty record"),
    "html": (b"<html>Busy</html>", "no counts line"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_malformed_record_says_why(kind: str) -> None:
    part, reason = BROKEN[kind]
    with pytest.raises(DataError, match=reason):
        flat(part)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_compound_or_a_reason(raw: bytes) -> None:
    for parse in (flat, lambda part: parse_line(part, "inchikey")):
        with pytest.raises(DataError):
            parse(raw)


def test_a_monstrous_record_is_refused() -> None:
    huge = PARTS[0].replace(b"<PUBCHEM_HEAVY_ATOM_COUNT>", b"<PUBCHEM_HEAVY_ATOM_COUNT>\n100000\n\n>  <X>")
    with pytest.raises(DataError, match="HeavyAtomCount"):
        flat(huge)


BOMB = """
import sys
from pathlib import Path
from kb.errors import SourceError
from kb.sdf import split
from kb.sources.pubchem.bulk import open_bulk
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
try:
    with open_bulk(Path(sys.argv[1])) as stream:
        for _ in split(stream):
            pass
except SourceError as error:
    print(error.message)
print((peak() - before) // 1024)
"""


def test_a_bomb_stops_at_its_cap_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "Compound_1.sdf.gz"
    with gzip.open(path, "wb", compresslevel=9) as out:
        for _ in range(200):
            out.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    done = subprocess.run([sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, check=True)
    message, grown = done.stdout.splitlines()
    assert "unpacks to more than" in message and int(grown) < 100
