"""Whatever the service does, no cell ever says present or absent without a true answer behind it."""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from kb.errors import Blocked, Incomplete, MkmedError, TransportError
from kb.modalities import State
from kb.sources.pubchem.ask import Asker, Replies, Reply
from kb.sources.pubchem.parse import TAGS, Structure
from kb.sources.pubchem.proof import BodyError
from kb.sources.pubchem.source import PubChem
from tests.kb.test_pubchem import POLICY, SOME, cells, rows, run, sound
from tests.standin import catalogue
from tests.standin.faults import LIES, WIRE
from tests.standin.quick import NO_LIMITS, transport_to
from tests.standin.server import StandIn

SLOW = {"silence", "slow head", "drip", "bomb", "huge"}
"""Tried in test_transport: they take seconds each."""
STRUCTURES = {cid: Structure(catalogue.compounds()[cid]["smiles"], catalogue.compounds()[cid]["formula"])
              for cid in (2244, 4091)}
ENDPOINTS: dict[str, Callable[[Asker], Any]] = {
    "properties": lambda a: a.properties([2244, 4091], TAGS), "record": lambda a: a.record(2244),
    "synonyms": lambda a: a.lists([2244, 4091], "synonyms", "Synonym"),
    "xrefs": lambda a: a.lists([2244, 4091], "xrefs/RN", "RN"), "3d": lambda a: a.conformers(STRUCTURES),
    "3d alone": lambda a: a.conformers({2244: STRUCTURES[2244]}), "image": lambda a: a.image(2244), "view": lambda a: a.view(2244),
    "quoted": lambda a: a.quoted(2244), "targets": lambda a: a.targets(2244),
    "parent": lambda a: a.parent(14219), "name": lambda a: a.find("name", "aspirin"),
    "smiles": lambda a: a.find("smiles", "CC(=O)OC1=CC=CC=C1C(=O)O"), "drugbank": lambda a: a.find("drugbank", "DB00945"),
}
SAYS_NOT_WHICH = {"parent", "name", "smiles", "drugbank"}
"""Endpoints whose answers do not say which compound they are about: one about another cannot be told."""
HARMLESS = {"twice"}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_no_endpoint_believes_a_lie(name: str, tmp_path: Path) -> None:
    told: list[str] = []
    policy = replace(POLICY, attempts=2)
    with StandIn(NO_LIMITS, fault=lambda *_: told[-1]) as standin, transport_to(standin.url, tmp_path, policy) as line:
        asker = Asker(line)
        for lie in [*LIES, *(w for w in WIRE if w not in SLOW)]:
            if lie in HARMLESS or (lie == "another compound" and name in SAYS_NOT_WHICH):
                continue
            told.append(lie)
            try:
                answer = ENDPOINTS[name](asker)
            except (TransportError, BodyError) as error:
                assert not isinstance(error, Blocked), "every lie is to be tried"
                continue
            if isinstance(answer, Replies) and not answer.found():
                continue
            raise AssertionError(f"{lie!r} was believed: {answer}")


def believed(name: str, tmp_path: Path, faults: list[str | None]) -> Reply:
    times = iter([*faults, None, None, None])
    with StandIn(NO_LIMITS, fault=lambda *_: next(times)) as standin, transport_to(standin.url, tmp_path, POLICY) as line:
        answer = ENDPOINTS[name](Asker(line))
    reply: Reply = answer.replies[0] if isinstance(answer, Replies) else answer
    return reply


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_endpoint_recovers(name: str, tmp_path: Path) -> None:
    assert believed(name, tmp_path, ["404 busy", "200 html as data", "chunk cut"]).present


CHAOS = [lie for lie in (*LIES, *WIRE) if lie not in SLOW | HARMLESS]


def chaos(seed: int, odds: float) -> Callable[[str, str, list[int]], str | None]:
    """Faults by chance, but never one that nobody could notice."""
    chance = random.Random(seed)

    def choose(method: str, path: str, cids: list[int]) -> str | None:
        if chance.random() >= odds:
            return None
        lie = chance.choice(CHAOS)
        return None if lie == "another compound" and "/cids/" in path else lie

    return choose


def truth(engine: Engine, home: Path, ids: tuple[str, ...]) -> dict[tuple[str, str], tuple[str, bytes | None]]:
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, home, ids)
    return cells(engine)


Known = tuple[str, bytes | None]


def same(key: tuple[str, str], found: Known, right: Known) -> bool:
    """Whether a cell says what is true, from the very bytes; lists (properties, identity) may come in other parts."""
    exact = found[0] == State.present and key[1] in ("image", "structure", "text")
    return found == right if exact else found[0] == right[0]


def details(engine: Engine, wrong: list[str]) -> str:
    known = rows(engine, "SELECT c.modality, c.state, c.evidence, a.url, left(encode(b.payload, 'escape'), 200)"
                         " FROM cell c JOIN artifact a ON a.id = c.artifact JOIN content b ON b.sha256 = a.content"
                         " WHERE modality <> 'property'")
    return "\n".join([*wrong, *map(str, known)])


IDS = (*SOME, "aspirin", "DB00331", *(str(cid) for cid in list(catalogue.compounds())[20:50]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chaos_never_lies_and_ends_well(seed: int, fresh_database: Engine, database: Engine, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PubChem, "policy", replace(POLICY, attempts=2))
    right = truth(database, tmp_path / "truth", IDS)
    engine = fresh_database
    with StandIn(NO_LIMITS, fault=chaos(seed, 0.5)) as standin:
        for attempt in range(40):
            standin.fault = chaos(seed * 100 + attempt, 0.5) if attempt < 6 else None
            try:
                run(engine, standin, tmp_path, IDS, retry_failed=True)
                done = standin.fault is None
            except MkmedError as error:
                assert isinstance(error, Incomplete | TransportError) and not isinstance(error, Blocked)
                done = False
            wrong = [f"{key}: {found[0]}" for key, found in cells(engine).items()
                     if found[0] in (State.present, State.absent) and not same(key, found, right[key])]
            assert not wrong, details(engine, wrong)
            assert sound(engine)
            if done:
                break
    assert {k: s for k, (s, _) in cells(engine).items()} == {k: s for k, (s, _) in right.items()}


def test_text_that_postgres_refuses_is_made_acceptable(fresh_database: Engine, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PubChem, "policy", POLICY)
    known = dict(catalogue.compounds())
    known[2244] = {**known[2244], "title": "As is it", "synonyms": "this is odd|" + known[2244]["synonyms"]}
    monkeypatch.setattr(catalogue, "compounds", lambda: known)
    with StandIn(NO_LIMITS, fault=lambda *_: "dirty") as standin:
        run(fresh_database, standin, tmp_path, ("2244",))
    contents = [c for (c,) in rows(fresh_database, "SELECT content FROM text")]
    assert any(" is \ufffd \u00e9 a compound" in content for content in contents)
    assert rows(fresh_database, "SELECT name FROM drug") == [("As is \ufffd \u00e9 it",)]
    assert sound(fresh_database)


def test_every_kind_of_absence_is_proven(fresh_database: Engine, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(PubChem, "policy", POLICY)
    with StandIn(NO_LIMITS) as standin:
        lacking = [c for c in catalogue.compounds() if not (c % catalogue.SILENT and c in catalogue.conformers())]
        run(fresh_database, standin, tmp_path, tuple(map(str, lacking)))
    absent = rows(fresh_database, "SELECT r.key, r.smiles, c.evidence, b.payload, a.url FROM cell c JOIN drug_record r USING (drug_id)"
                                  " LEFT JOIN artifact a ON a.id = c.artifact LEFT JOIN content b ON b.sha256 = a.content"
                                  " WHERE c.state = 'absent'")
    assert len(absent) > 20
    shared: Counter[bytes] = Counter()
    for key, smiles, evidence, payload, url in absent:
        assert evidence.startswith("rule:pubchem3d:") or b"NotFound" in bytes(payload)
        if payload is not None and b"NotFound" in bytes(payload):
            shared[bytes(payload)] += 1
            cid = key.partition(":")[2]
            parent = "." in (smiles or "") and "3d" in url  # a salt's conformer is its parent's
            assert parent or re.search(rf"\D{cid}(\D|$)", url), f"the proof of {key} is an answer about {url}"
    assert max(shared.values()) > 1, "no two answers of the stand-in have the same bytes, so this has not been tried"


def test_the_png_checks_really_look_at_the_chunks() -> None:
    """A sanity check of the fixture: CRCs in the stand-in's pictures are right, so a broken one is the fault's."""
    body = catalogue.png(2244, 300)
    length = int.from_bytes(body[8:12], "big")
    assert zlib.crc32(body[12:16 + length]) == int.from_bytes(body[16 + length:20 + length], "big")
