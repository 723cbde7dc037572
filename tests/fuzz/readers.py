"""The readers under fuzz: a name, the documents to start from, and what is done with a changed one."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.standin import catalogue

DATA = Path(__file__).parents[1] / "data"
Reader = Callable[[bytes, Path], None]
"""Reads bytes, which it may write below a folder of its own."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed: documents to begin with, words that its format knows, and the reader."""

    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...]
    make: Callable[[Path], Reader]


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _csv(folder: Path) -> Reader:
    from kb.errors import MkmedError
    from kb.sources.tables.read import UserTable

    def read(data: bytes, folder: Path) -> None:
        for name in ("t.csv", "t.tsv"):
            table = UserTable(_write(folder / name, data))
            try:
                rows = [number for number, _ in table.rows()]
            except MkmedError:
                if name == "t.tsv":
                    raise
                continue
            told = [problem.row for problem in table.problems]
            assert rows == sorted(set(rows)) and all(number > 0 for number in told) and not set(rows) & set(told)

    return read


def _csv_seeds() -> list[bytes]:
    plain = (b'id,name,smiles,text\n1,aspirin,CC(=O)O,"relieves\npain"\n2,"a ""b""",C,x\n3,\xce\xb2-ionone,CC,\n')
    return [plain, plain.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + plain, plain.decode().encode("utf-16"),
            plain.replace(b",", b"\t"), gzip.compress(plain)]


def _sdf(folder: Path) -> Reader:
    from kb.chemistry import read_structure
    from kb.sources.tables.read import UserTable

    def read(data: bytes, folder: Path) -> None:
        from kb.errors import DataError

        for _, cells in UserTable(_write(folder / "t.sdf", data)).rows():
            try:
                read_structure(("", cells["molblock"]))
            except DataError:
                continue

    return read


def _sdf_seeds() -> list[bytes]:
    return [gzip.decompress((DATA / "pubchem_bulk" / "Compound_sample.sdf.gz").read_bytes())[:40_000],
            "".join(list(catalogue.conformers().values())[:3]).encode(), gzip.compress(b"x\n$$$$\n")]


def _drkg(folder: Path) -> Reader:
    from kb.sources.drkg import contract
    from kb.sources.drkg.read import describe_relations, read_triples

    def read(data: bytes, folder: Path) -> None:
        triples = read_triples(_write(folder / "drkg.tsv", data))
        contract.compare_counts(triples, describe_relations(triples))

    return read


def _drkg_seeds() -> list[bytes]:
    plain = b"Gene::1\tGNBR::E::Gene:Gene\tGene::2\nCompound::DB1\tDRUGBANK::treats::Compound:Disease\tDisease::x\n" * 20
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("drkg.tsv")
        info.size = len(plain)
        archive.addfile(info, io.BytesIO(plain))
    return [plain, gzip.compress(plain), packed.getvalue()]


def _pubchem(folder: Path) -> Reader:
    from kb.sources.pubchem.ask import Expected, Kind, Verdict, classify
    from kb.sources.pubchem.parse import Structure

    both = frozenset({2244, 4091})
    structures = {cid: Structure(catalogue.compounds()[cid]["smiles"]) for cid in both}
    expected = [Expected(kind, both if kind is not Kind.png else frozenset(), ("Synonym",) if kind is Kind.information
                         else (), partial, structures) for kind in Kind for partial in (False, True)]

    def read(data: bytes, folder: Path) -> None:
        for wanted in expected:
            kind = {Kind.sdf: "chemical/x-mdl-sdfile", Kind.png: "image/png"}.get(wanted.kind, "application/json")
            judgement = classify(200, {"content-type": kind}, data, wanted)
            assert judgement.verdict in Verdict and len(judgement.reason) < 10_000

    return read


def _pubchem_seeds() -> list[bytes]:
    from kb.sources.pubchem.parse import TAGS

    documents = [catalogue.properties([2244, 4091], list(TAGS)), catalogue.record(2244), catalogue.view(2244, "Record Description"),
                 catalogue.information([2244, 4091], "Synonym"), {"IdentifierList": {"CID": [2244]}},
                 {"InformationList": {"Information": [{"SID": 1, "CID": [2244]}]}},
                 {"Fault": {"Code": "PUGREST.NotFound", "Message": "No CID found", "Details": ["x"]}}]
    pair = catalogue.conformers()[2244] + catalogue.conformers()[4091]
    return [*(json.dumps(d).encode() for d in documents), pair.encode(), catalogue.png(2244, 300),
            b"Status: 404\nCode: PUGREST.NotFound\nMessage: x"]


def _visit(folder: Path) -> Reader:
    from recsys.answers.patient import read_patient

    return lambda data, folder: void(read_patient(_write(folder / "visit.json", data)))


def void(_: object) -> None:
    """Nothing: the value was read, which is all that is asked."""


def _config(folder: Path) -> Reader:
    from embed.config import load_config as embed_config
    from kb.errors import MkmedError
    from kb.settings import load_settings
    from recsys.experiments.config import load_recommender_config as recsys_config

    def read(data: bytes, folder: Path) -> None:
        path = _write(folder / "config.toml", data)
        os.environ["MKMED_HOME"] = str(folder)
        os.environ["MKMED_CONTACT"] = str(hash(data))  # so that the settings are read again
        for load in (lambda: void(embed_config(path)), lambda: void(recsys_config(path)), lambda: void(load_settings())):
            try:
                load()
            except MkmedError:
                continue

    return read


def _config_seeds() -> list[bytes]:
    return [b'workers = 3\nrequests_per_second = 2.5\ncontact = "a@b.org"\n', b"[train]\nepochs = 20\nbatch = 64\n",
            b'recommender = "mkmed"\nepochs = 5\nlearning_rate = 1e-3\nfrozen = false\n']


def _checkpoint(folder: Path) -> Reader:
    from embed.runs.checkpoint import MANIFEST, load_exactly
    from kb.errors import MkmedError

    def read(data: bytes, folder: Path) -> None:
        import hashlib

        path = _write(folder / "best.pt", data)  # the hash is right: what is in it is not
        (folder / MANIFEST).write_text(json.dumps({"best.pt": [hashlib.sha256(data).hexdigest()]}))
        for arrays in (False, True):
            try:
                load_exactly(path, arrays=arrays)
            except MkmedError:
                continue

    return read


def _checkpoint_seeds() -> list[bytes]:
    import torch

    found = []
    for new in (True, False):
        buffer = io.BytesIO()
        content = {"tensors": {"a": torch.zeros(3, 4), "b": torch.ones(5, dtype=torch.int64)}, "meta": '{"x": 1}'}
        torch.save(content, buffer, _use_new_zipfile_serialization=new)
        found.append(buffer.getvalue())
    return found


def _ehr(folder: Path) -> Reader:
    from recsys.formats import FORMATS
    from recsys.formats.contract import Limits

    tables = sorted((DATA / "cases" / "ehr_mimic3").glob("*.csv"))
    form = FORMATS["mimic3"]

    def read(data: bytes, folder: Path) -> None:
        alike = [n for n, table in enumerate(tables) if table.read_bytes()[:14] == data[:14]]
        number = alike[0] if alike else zlib.crc32(data) % len(tables)
        for n, table in enumerate(tables):
            target = folder / table.name
            if n == number:
                target.write_bytes(data)
            else:
                shutil.copyfile(table, target)
        form.read(folder, {}, Limits(memory="512MB"))

    return read


TARGETS: dict[str, Target] = {
    "csv": Target(_csv_seeds, (b'"', b'""', b",", b";", b"\t", b"\r", b"\n", b"\0", b"\xff\xfe", b"\xef\xbb\xbf"), _csv),
    "sdf": Target(_sdf_seeds, (b"$$$$\n", b"M  END\n", b"V2000", b"V3000", b"> <X>\n", b"\n\n", b"\0", b"999999", b"M  CHG  1   1  99\n",
                               b"M  V30 COUNTS 1 0 0 0 0\n", b"M  ISO  1   1 999\n"), _sdf),
    "drkg": Target(_drkg_seeds, (b"\t", b"\n", b"::", b"Gene::", b"\0", b"\xff", b"NaN", b"\r\n"), _drkg),
    "pubchem": Target(_pubchem_seeds, (b"null", b"true", b"1e999", b"NaN", b"-1", b"[]", b"{}", b'"', b"\\u0000", b"\\ud800",
                                       b'"Fault"', b'"CID"', b"$$$$\n", b"IHDR", b"9" * 400), _pubchem),
    "visit": Target(lambda: [p.read_bytes() for p in sorted((DATA / "visits").glob("*.json"))],
                    (b"null", b"NaN", b"1e999", b"[]", b"{}", b'"', b"\\u0000", b"\xef\xbb\xbf", b"ICD10CM:", b"9" * 5000), _visit),
    "config": Target(_config_seeds, (b"=", b"[", b"]", b'"', b"inf", b"nan", b"1979-05-27", b"0x1F", b"1_000", b"\n", b"{", b"'''"), _config),
    "checkpoint": Target(_checkpoint_seeds, (struct.pack("<I", 0x04034B50), b"data.pkl", b"\x80\x02}", b"ctorch\n", b"cos\nsystem\n", b".",
                                             b"\xff" * 8), _checkpoint),
    "ehr": Target(lambda: [p.read_bytes() for p in sorted((DATA / "cases" / "ehr_mimic3").glob("*.csv"))],
                  (b'"', b",", b"\n", b"\r\n", b"\0", b"\xff", b"2101-13-45", b"NaN", b"SUBJECT_ID", b"9" * 30), _ehr),
}
