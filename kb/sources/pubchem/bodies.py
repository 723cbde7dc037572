"""Validators of bodies: each returns quietly or raises BodyError with the reason; none trusts a byte."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

MAX_PIXELS = 1024
"""The greatest width or height of a picture."""

RENAMED = {"CanonicalSMILES": "ConnectivitySMILES", "IsomericSMILES": "SMILES"}
"""Property tags of before 2025 and the keys that they come back under."""

OPTIONAL = frozenset({"XLogP", "IUPACName", "Title", "InChI", "InChIKey", "SMILES", "ConnectivitySMILES", "TPSA"})
"""Properties that PubChem leaves out of a row which has none."""


class BodyError(ValueError):
    """The body is not what its kind has to be."""


def _no_constant(name: str) -> float:
    raise BodyError(f"{name} in JSON")


def load_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; NaN and Infinity, which JSON does not have, are refused."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except BodyError:
        raise
    except (ValueError, RecursionError) as error:
        raise BodyError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise BodyError("JSON, but not an object")
    return document


def rows(document: Mapping[str, Any], top: str, inner: str) -> list[dict[str, Any]]:
    """The list of objects at ``document[top][inner]``, never empty."""
    table = document.get(top)
    listed = table.get(inner) if isinstance(table, dict) else None
    if not isinstance(listed, list) or not listed or not all(isinstance(row, dict) for row in listed):
        raise BodyError(f"no rows under {top}.{inner}")
    return listed


def is_cid(value: Any) -> bool:
    """Whether a value can be a CID: a positive integer (0 is PubChem's way to say that it never saw a structure)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def check_set(got: Iterable[Any], asked: frozenset[int], partial: bool) -> None:
    """Refuse CIDs that were not asked for, and, unless ``partial``, CIDs that are missing."""
    found = set()
    for cid in got:
        if not is_cid(cid):
            raise BodyError("a row has no valid CID")
        found.add(cid)
    if asked and not found <= asked:
        raise BodyError("the answer is about compounds that were not asked for")
    if asked and not partial and found != asked:
        raise BodyError("compounds are missing from the answer")


def check_properties(document: Mapping[str, Any], asked: frozenset[int], tags: tuple[str, ...], partial: bool) -> None:
    """A property table: one row a CID, every property there that PubChem never leaves out."""
    listed = rows(document, "PropertyTable", "Properties")
    check_set((row.get("CID") for row in listed), asked, partial)
    if len({row["CID"] for row in listed}) != len(listed):
        raise BodyError("a compound has two rows of properties")
    required = {RENAMED.get(tag, tag) for tag in tags} - OPTIONAL
    for row in listed:
        if missing := required - row.keys():
            raise BodyError(f"properties are missing: {', '.join(sorted(missing))}")
        if any(isinstance(value, dict | list) for value in row.values()):
            raise BodyError("a property is not a plain value")


def check_information(document: Mapping[str, Any], asked: frozenset[int], tags: tuple[str, ...], partial: bool) -> None:
    """An information list: every row about a CID asked for, its lists being lists of text or numbers."""
    listed = rows(document, "InformationList", "Information")
    if "SID" not in listed[0]:
        check_set((row.get("CID") for row in listed), asked, partial)
    for row in listed:
        for tag in tags:
            values = row.get(tag, [])
            if not isinstance(values, list) or not all(isinstance(v, str | int) for v in values):
                raise BodyError(f"{tag} is not a list of values")
        if "Description" in row and not isinstance(row["Description"], str):
            raise BodyError("a description is not text")
    if tags and not partial and not any(row.get(tag) for row in listed for tag in tags):
        raise BodyError(f"no row has {' or '.join(tags)}")


def check_identifiers(document: Mapping[str, Any]) -> None:
    """A list of CIDs, either plain or by substance; a lone 0 stands for a structure that PubChem never saw."""
    if "InformationList" in document:
        listed = rows(document, "InformationList", "Information")
        cids = [cid for row in listed for cid in _cid_list(row.get("CID"))]
    else:
        table = document.get("IdentifierList")
        cids = _cid_list(table.get("CID") if isinstance(table, dict) else None)
    if cids != [0] and (not cids or not all(is_cid(cid) for cid in cids)):
        raise BodyError("no list of valid CIDs")


def _cid_list(value: Any) -> list[Any]:
    if is_cid(value) or value == 0:
        return [value]
    if not isinstance(value, list):
        raise BodyError("no list of CIDs")
    return value


def check_records(document: Mapping[str, Any], asked: frozenset[int], partial: bool) -> None:
    """Full compound records, each with its CID, atoms and properties."""
    listed = document.get("PC_Compounds")
    if not isinstance(listed, list) or not listed:
        raise BodyError("no PC_Compounds")
    cids = []
    for record in listed:
        try:
            cids.append(record["id"]["id"]["cid"])
            sound = isinstance(record["atoms"]["aid"], list) and isinstance(record["props"], list)
        except (KeyError, TypeError, IndexError):
            raise BodyError("a record without id, atoms or props") from None
        if not sound:
            raise BodyError("a record whose atoms or props are not lists")
    check_set(cids, asked, partial)


def check_view(document: Mapping[str, Any], asked: frozenset[int]) -> None:
    """A PUG View record about the CID asked for, with sections and references."""
    record = document.get("Record", document)
    if not isinstance(record, dict) or record.get("RecordType") != "CID":
        raise BodyError("no record of a compound")
    check_set([record.get("RecordNumber")], asked, partial=False)
    for part in ("Section", "Reference"):
        listed = record.get(part)
        if not isinstance(listed, list) or not listed or not all(isinstance(row, dict) for row in listed):
            raise BodyError(f"the record has no list of {part}s")


def split_sdf(body: bytes) -> dict[int, str]:
    """The records of an SD file by CID, each with its closing ``$$$$`` line; raises BodyError for anything odd."""
    try:
        text = body.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise BodyError("SDF is not UTF-8") from None
    if not text.rstrip("\n").endswith("\n$$$$"):
        raise BodyError("SDF does not end with $$$$")
    records: dict[int, str] = {}
    for part in text.rstrip("\n").removesuffix("\n$$$$").split("\n$$$$\n"):
        cid = _sdf_cid(part)
        if cid in records:
            raise BodyError("a compound comes twice in the SDF")
        records[cid] = part + "\n$$$$\n"
    return records


def _sdf_cid(record: str) -> int:
    lines = record.split("\n")
    try:
        cid = int(lines[lines.index("> <PUBCHEM_COMPOUND_CID>") + 1])
        atoms, bonds = int(lines[3][:3]), int(lines[3][3:6])
        end = lines.index("M  END")
        sound = "V2000" in lines[3] and lines[0].strip() == str(cid) and end >= 4 + atoms + bonds
    except (ValueError, IndexError):
        raise BodyError("an SDF record without a CID, counts line or end") from None
    if not sound or atoms < 1 or not is_cid(cid):
        raise BodyError("an SDF record whose title, CID or atoms do not agree")
    return cid


def check_sdf(body: bytes, asked: frozenset[int], partial: bool, three_d: bool) -> None:
    """An SD file whose every record has its CID as title and as tag, and its atoms complete."""
    records = split_sdf(body)
    check_set(records, asked, partial)
    if three_d and not all(record.split("\n", 2)[1].rstrip().endswith("3D") for record in records.values()):
        raise BodyError("a record without 3D coordinates")


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_png(body: bytes) -> None:
    """A complete PNG of at most MAX_PIXELS either way: every chunk's CRC right, IEND last, and it decodes."""
    if body[:8] != PNG_SIGNATURE:
        raise BodyError("not a PNG")
    at, first, kind = 8, True, b""
    while at < len(body):
        if len(body) < at + 12:
            raise BodyError("a PNG chunk is cut short")
        length, kind = struct.unpack(">I4s", body[at:at + 8])
        data = body[at + 8:at + 8 + length]
        if len(body) < at + 12 + length or zlib.crc32(kind + data) != int.from_bytes(body[at + 8 + length:][:4], "big"):
            raise BodyError("a PNG chunk is cut short or its checksum is wrong")
        if first:
            _check_header(kind, data)
        at, first = at + 12 + length, False
        if kind == b"IEND":
            break
    if kind != b"IEND" or at != len(body):
        raise BodyError("a PNG without a proper end")
    _decode(body)


def _check_header(kind: bytes, data: bytes) -> None:
    if kind != b"IHDR" or len(data) != 13:
        raise BodyError("a PNG without a header")
    width, height = struct.unpack(">II", data[:8])
    if not (0 < width <= MAX_PIXELS and 0 < height <= MAX_PIXELS):
        raise BodyError("a PNG of impossible size")


def _decode(body: bytes) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of decompression bombs
            with Image.open(io.BytesIO(body), formats=("PNG",)) as picture:
                picture.load()
    except (OSError, ValueError, SyntaxError, Warning, UnidentifiedImageError, zlib.error, struct.error) as error:
        raise BodyError(f"a PNG that does not decode: {type(error).__name__}") from None
