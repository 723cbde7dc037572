"""Answers that are of PubChem's shape and wrong in one typed value: made at random, from the true ones.

What no structure proves (another plausible text, a picture of another compound, an XLogP of 3.1 for 1.3) is not made:
nobody could tell. Everything else must be noticed, whatever it is.
"""

from __future__ import annotations

import io
import json
import math
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.standin import catalogue
from tests.standin.faults import HTML, Reply, fault_body

Maker = Callable[[random.Random, Reply, list[int]], Reply]

WRONG: tuple[Any, ...] = (
    None, True, False, [], {}, "", " ", "1_000", "٣", " 7 ", "NaN", "-Infinity", "1e29", "0x10", 1e29, -1e29, 1e308, -3,
    2**31, 2**63, 10**30, "\0" * 8, "\ud800", "a\0b", "x" * 9_000, "y" * 1_100_000, [0], [False], [0.0], [[]], {"a": {}},
    ["z"] * 25_000, {"CID": 1}, "bsynrymutxbxsq-uhfffaoysa-n", "BSYNRYMUTXBXSQ-UHFFFAOYSA", "http://[", "C9H8O", "C(", "*",
    "999999999999", 0.5, [1, 2, [3]], "\u202e", "null", 9.99e-320,
)
"""Values of no use anywhere that PubChem has a number, an identifier or a list."""
TEXTS = ("Description", "String", "TOCHeading", "SourceName", "SourceID", "Name", "URL", "LicenseNote", "LicenseURL",
         "IUPACName", "RecordTitle", "Message", "ANID", "RecordType", "sval", "name", "implementation", "label")
"""Keys whose values are free text: only what is no text, or none of use, is put there."""
NEIGHBOURLY = ("SMILES", "InChIKey", "MolecularFormula", "MolecularWeight", "MonoisotopicMass", "Title", "HeavyAtomCount")
"""What can be another compound's and be noticed."""


def other(chance: random.Random, cid: int | None = None) -> dict[str, Any]:
    """A property row of a compound of another formula."""
    rows = catalogue.compounds()
    weight = float(rows[cid]["mol_weight"]) if cid in rows else 0.0
    found = chance.choice([c for c, row in rows.items() if abs(float(row["mol_weight"]) - weight) > 2])
    table = catalogue.properties([found], [*NEIGHBOURLY])
    assert table is not None
    row: dict[str, Any] = table["PropertyTable"]["Properties"][0]
    return row


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [place for key, child in inner for place in places(child, (*at, key))]


def put(document: Any, place: tuple[Any, ...], value: Any) -> None:
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = value


def get(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


def _json(reply: Reply, document: Any) -> Reply:
    return replace(reply, body=json.dumps(document).encode())


def one_value(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    """One value of the document is something else."""
    document = json.loads(reply.body)
    every = places(document)
    place = chance.choice(every if chance.random() < 0.5 else [p for p in every if len(p) < 6] or every)
    key = next((part for part in reversed(place) if isinstance(part, str)), "")
    old = get(document, place)
    choices = [value for value in WRONG if value != old or type(value) is not type(old)]
    if key in TEXTS or (key == "Synonym" and isinstance(old, str)) or (key == "RN" and isinstance(old, str)):
        choices = [None, True, 7, [], {}, ["x"], {"x": 1}, "\0\0\0", "http://[" if "URL" in key else 5]
    if key in ("ReferenceNumber", "Start", "Length"):
        choices = [None, True, [], {}, "1", 1.5, 10**9, -1]
    if key in ("XLogP", "TPSA", "HBondDonorCount", "HBondAcceptorCount", "RotatableBondCount", "AtomStereoCount",
               "Complexity", "fval", "ival", "heavy_atom", "atom_chiral", "covalent_unit", "charge", "Charge"):
        choices = [v for v in choices if not isinstance(v, int | float) or isinstance(v, bool) or abs(v) > 1e20 or v == -3]
    if key in ("XLogP", "fval"):
        choices = [value for value in choices if value != -3]
    if isinstance(old, list) and "IdentifierList" in place:
        choices = [value for value in choices if value != [0]]  # which is how PubChem says that it knows none
    put(document, place, chance.choice(choices))
    return _json(reply, document)


def one_missing(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    """One key of the document is not there."""
    document = json.loads(reply.body)
    found = [p for p in places(document) if isinstance(p[-1], str) and p[-1] not in ("LicenseNote", "LicenseURL")]
    if found:
        place = chance.choice(found)
        del get(document, place[:-1])[place[-1]]
    return _json(reply, document)


def of_another(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    """One value of a row of properties is another compound's."""
    document = json.loads(reply.body)
    rows = document.get("PropertyTable", {}).get("Properties", [])
    if not rows:
        return one_value(chance, reply, cids)
    row = chance.choice(rows)
    foreign = other(chance, row.get("CID"))
    key = chance.choice(NEIGHBOURLY)
    row[key] = foreign[key]
    return _json(reply, document)


def of_a_stranger(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    """Rows about other compounds, or the same one twice."""
    document = json.loads(reply.body)
    lists = [p for p in places(document) if isinstance(get(document, p), list) and get(document, p)
             and isinstance(get(document, p)[0], dict) and "CID" in get(document, p)[0]]
    if not lists:
        return one_value(chance, reply, cids)
    rows = get(document, chance.choice(lists))
    if chance.random() < 0.5:
        rows[chance.randrange(len(rows))]["CID"] = chance.choice([0, False, -1, {}, "2244", 2244.0, 987654321, None])
    else:
        rows.append({**chance.choice(rows), **({"SID": 5} if chance.random() < 0.3 else {"Title": "Another"})})
    return _json(reply, document)


def too_deep(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    depth = chance.choice([60, 900, 100_000])
    return replace(reply, body=b'{"a":' * depth + b"1" + b"}" * depth)


def fault(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    """A fault that proves nothing: of another family, behind another status, or malformed."""
    family = "PUGREST" if b'"Record"' in reply.body or b"PUGVIEW" in reply.body else "PUGVIEW"
    return chance.choice([
        fault_body(f"{family}.NotFound", "No data", 404), fault_body("NotFound", "No data", 404),
        fault_body("PUGREST.NotFound", "No data", 500), fault_body("PUGVIEW.NotFound", "No data", 503),
        fault_body("PUGREST.ServerError", "x", 500), fault_body("PUGREST.Timeout", "x", 504),
        Reply(404, "application/json", b'{"Fault": {"Code": ["PUGREST.NotFound"]}}'),
        Reply(404, "application/json", b'{"Fault": "PUGREST.NotFound"}'),
        Reply(404, "application/json", b'{"Fault": {"Code": "PUGREST.NotFound"}, "x": 1}'),
        Reply(404, "text/html", HTML), Reply(200, reply.type, HTML),
    ])


RETRY_AFTER = ("0", "-1", "1e3", "soon", "9" * 5000, "Fri, 31 Dec 99999999999 23:59:59 GMT",
               "Thu, 01 Jan 1970 00:00:00 +" + "9" * 20, "Fri, 31 Dec 9999 23:59:59 GMT", "\u00b3", "inf", "0.01")
LOCATIONS = ("http://[", "file:///etc/passwd", "//evil.example/", "http://127.0.0.2:9/", "\\\\x", "?", "http://127.0.0.1:1/")


def head(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    """A head that makes no sense, before a true body or none."""
    return chance.choice([
        replace(reply, retry_after=chance.choice(RETRY_AFTER)),
        Reply(503, "text/html", HTML, retry_after=chance.choice(RETRY_AFTER)),
        Reply(302, "text/html", b"", location=chance.choice(LOCATIONS)), replace(reply, type="text/plain"),
        replace(reply, colour="Yellow"), replace(reply, status=chance.choice([201, 202, 206, 226, 299, 304, 418, 501, 599])),
    ])


def _lies_flat(lines: list[str], atoms: int, bonds: int) -> bool:
    """Whether a record without its third coordinates has the same bonds within 0.06 Å: it is a conformer still."""
    places = [[float(lines[4 + n][k : k + 10]) for k in (0, 10, 20)] for n in range(atoms)]
    pairs = [(int(line[:3]) - 1, int(line[3:6]) - 1) for line in lines[4 + atoms : 4 + atoms + bonds]]
    changes = [math.dist(places[a], places[b]) - math.dist(places[a][:2], places[b][:2]) for a, b in pairs]
    return math.sqrt(sum(change**2 for change in changes) / max(len(changes), 1)) < 0.06


def _edit_sdf(chance: random.Random, text: str) -> str:
    """One record of an SD file with something in it that cannot be."""
    parts = text.split("$$$$\n")[:-1]
    at = chance.randrange(len(parts))
    lines = parts[at].split("\n")
    atoms = int(lines[3][:3])
    bonds = int(lines[3][3:6])
    rows = range(4, 4 + atoms)
    kind = chance.randrange(12)
    if kind == 0 or (kind == 1 and _lies_flat(lines, atoms, bonds)):  # all atoms in one place
        for n in rows:
            lines[n] = "    0.0000    0.0000    0.0000" + lines[n][30:]
    elif kind == 1:  # pressed flat
        for n in rows:
            lines[n] = lines[n][:20] + "    0.0000" + lines[n][30:]
        if not any("3D" in line for line in lines[:2]):
            lines[1] += "3D"
    elif kind == 2:
        n = chance.choice(rows)
        lines[n] = chance.choice(["     1.0e9", "       nan", "       inf", "99999.9999", "     1_000", "   0x10.00"]) + lines[n][10:]
    elif kind == 3:  # hydrogens gone
        kept = [n for n in rows if lines[n][31:34].strip() != "H"]
        heavy = len(kept)
        inside = [line for line in lines[4 + atoms : 4 + atoms + bonds] if int(line[:3]) <= heavy and int(line[3:6]) <= heavy]
        lines[3:4 + atoms + bonds] = [f"{heavy:3d}{len(inside):3d}{lines[3][6:]}", *(lines[n] for n in kept), *inside]
    elif kind == 4 and bonds:  # a bond to an atom that is not there
        n = 4 + atoms + chance.randrange(bonds)
        lines[n] = f"{chance.choice([0, 999, atoms + 1]):3d}" + lines[n][3:]
    elif kind == 5:
        lines[chance.randrange(len(lines))] += "\0"
    elif kind == 6:  # the mirror image of a chiral compound, and stretched
        for n in rows:
            lines[n] = f"{-1.9 * float(lines[n][:10]):10.4f}" + lines[n][10:]
    elif kind == 7:
        lines[3] = chance.choice(["  0  0  0  0  0  0  0  0  0  0999 V2000", "abc", "999999" + lines[3][6:], ""])
    elif kind == 8:
        n = chance.choice(rows)
        lines[n] = lines[n][:31] + chance.choice(["Xx ", "   ", "Pt ", "C  " if lines[n][31] != "C" else "N  "]) + lines[n][34:]
    elif kind == 9:
        lines = [line.replace("M  END", "M  EN") for line in lines]
    elif kind == 10:  # the coordinates of the next atom
        first, second = 4, 4 + atoms - 1
        lines[first], lines[second] = lines[second][:30] + lines[first][30:], lines[first][:30] + lines[second][30:]
    else:
        lines = [line if "PUBCHEM_MMFF94_ENERGY" not in before else chance.choice(["nan", "1_0", "1e400", "x"])
                 for before, line in zip(["", *lines], lines, strict=False)]
    parts[at] = "\n".join(lines)
    return "".join(part + "$$$$\n" for part in parts)


def sdf(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    text = reply.body.decode()
    parts = text.split("$$$$\n")[:-1]
    if len(parts) > 1 and chance.random() < 0.3:  # two records under each other's names
        a, b = chance.sample(range(len(parts)), 2)
        first, second = parts[a].split("\n", 1)[0], parts[b].split("\n", 1)[0]
        atoms = parts[a].split("\n")[3][:6] == parts[b].split("\n")[3][:6]
        if not atoms:
            parts[a] = parts[a].replace(first, second, 1).replace(f"CID>\n{first}", f"CID>\n{second}")
            parts[b] = parts[b].replace(second, first, 1).replace(f"CID>\n{second}", f"CID>\n{first}")
            return replace(reply, body="".join(part + "$$$$\n" for part in parts).encode())
    return replace(reply, body=_edit_sdf(chance, text).encode("utf-8", "replace"))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(chance: random.Random, reply: Reply, cids: list[int]) -> Reply:
    from PIL import Image

    def picture(*size: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", size or (300, 300), (250, 250, 250)).save(buffer, "PNG")
        return buffer.getvalue()

    body = reply.body
    header = _chunk(b"IHDR", body[16:29])
    return replace(reply, body=chance.choice([
        picture(1, 1), picture(), picture(1024, 1024), body[:33] + header + body[33:], body[:33], body[:-12],
        body[:8] + _chunk(b"IHDR", struct.pack(">IIBBBBB", 300, 300, 8, 7, 0, 0, 0)) + body[33:], body + b"x", b"",
        body[:8] + _chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31, 300, 8, 2, 0, 0, 0)) + body[33:], body[:40] + body[41:],
        body[:33] + _chunk(b"PLTE", b"\0" * 5) + body[33:], body[:33] + _chunk(b"tRNS", b"\0") + body[33:],
        body[:33] + _chunk(b"IDAT", b"junk") + body[33:], body[:33] + _chunk(b"zTXt", b"a\0\0" + b"x" * 99) + _chunk(b"IEND", b""),
    ]))


JSON_MAKERS: tuple[Maker, ...] = (one_value, one_value, one_value, one_missing, of_another, of_another, of_a_stranger,
                                  too_deep, fault, head)
MAKERS: dict[str, tuple[Maker, ...]] = {"image/png": (png, png, fault, head),
                                        "chemical/x-mdl-sdfile": (sdf, sdf, sdf, fault, head)}


@dataclass
class Liar:
    """Changes answers by chance; ``only`` limits it to answers about some compounds.

    The chance of an answer depends on the seed, on what is asked and how often it was asked, not on threads.
    """

    seed: str
    odds: float = 0.5
    only: frozenset[int] | None = None
    told: list[str] = field(default_factory=list)
    """What was said, for a failure's message."""
    asked: Counter[str] = field(default_factory=Counter)

    def __call__(self, endpoint: str, cids: list[int], reply: Reply) -> Reply:
        """The true answer, or a lie."""
        question = f"{endpoint} {cids}"
        self.asked[question] += 1
        chance = random.Random(f"{self.seed}:{question}:{self.asked[question]}")
        if chance.random() >= self.odds or (self.only is not None and not self.only & set(cids)):
            return reply
        makers = MAKERS.get(reply.type, JSON_MAKERS)
        if endpoint in ("name", "smiles", "inchikey", "drugbank", "parent"):
            makers = (one_value, one_missing, too_deep, fault, head)
        if reply.status != 200:
            makers = (fault, head)
        maker = chance.choice(makers)
        changed = maker(chance, reply, cids)
        while self.only is not None and changed.status in (429, 503):  # which is about everybody
            changed = maker(chance, reply, cids)
        self.told.append(f"{endpoint} {cids[:3]}: {maker.__name__}: {changed.status} {changed.body[:60]!r}")
        return changed
