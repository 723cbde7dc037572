"""Rounds of ingest against a server that lies in typed answers, each compared with what is true."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from kb.errors import MkmedError
from tests.kb.test_pubchem import POLICY, rows, run, sound
from tests.standin import catalogue
from tests.standin.quick import NO_LIMITS
from tests.standin.server import StandIn
from tests.standin.typed import Liar

QUICK = replace(POLICY, attempts=2, deadline=10.0, first_wait=0.001, first_pause=0.001, longest_pause=0.002)
FACTS = {
    "cells": "SELECT r.key, c.modality, c.state, CASE WHEN c.modality IN ('image', 'structure') AND c.state = 'present'"
             " THEN encode(a.content, 'hex') END FROM cell c JOIN drug_record r USING (drug_id)"
             " LEFT JOIN artifact a ON a.id = c.artifact"
             " WHERE r.source = 'pubchem' AND c.state IN ('present', 'absent') AND c.modality <> 'graph'",
    "identities": "SELECT key, 'inchikey', inchikey FROM drug_record WHERE inchikey IS NOT NULL"
                  " UNION ALL SELECT key, 'smiles', smiles FROM drug_record WHERE smiles IS NOT NULL"
                  " UNION ALL SELECT key, 'formula', formula FROM drug_record WHERE formula IS NOT NULL",
    "identifiers": "SELECT r.key, namespace, value FROM identifier JOIN drug_record r USING (drug_id)",
    "names": "SELECT r.key, n.name FROM drug_name n JOIN drug_record r USING (drug_id)",
    "texts": "SELECT r.key, t.provider, t.content FROM text t JOIN drug_record r USING (drug_id)",
    "numbers": 'SELECT r.key, v.key AS name, v.value::text FROM property_set p JOIN drug_record r USING (drug_id),'
               ' jsonb_each(p."values") v',
    "conformers": "SELECT r.key, c.molblock, c.heavy_atoms, c.energy FROM conformer c JOIN drug_record r USING (drug_id)",
    "questions": "SELECT l.key, l.state, r.key FROM lookup l LEFT JOIN drug_record r USING (drug_id)"
                 " WHERE l.state = 'absent' OR (l.state = 'present' AND l.drug_id IS NOT NULL)",
}
"""What is filed, as rows; whatever a round files must be among the rows of an ingest from a server that tells the truth."""

Known = dict[str, set[tuple[Any, ...]]]


def known(engine: Engine) -> Known:
    return {name: set(rows(engine, query)) for name, query in FACTS.items()}


def questions(chance: random.Random, count: int) -> tuple[str, ...]:
    """CIDs, names, structures and keys, some of nothing that is known."""
    table = catalogue.compounds()
    cids = chance.sample(list(table), count)
    asked = [str(cid) for cid in cids[: count // 2]]
    for cid in cids[count // 2 :]:
        row = table[cid]
        asked.append(chance.choice([row["title"], row["inchikey"], f"smiles:{row['smiles']}", row["drugbank"] or str(cid)]))
    return (*asked, "unheard of", "smiles:C1CC1CCCC")


def truth(engine: Engine, home: Path, ids: tuple[str, ...]) -> Known:
    with StandIn(NO_LIMITS) as standin:
        run(engine, standin, home, ids)
    return known(engine)


def attack(fresh: Callable[[], Any], home: Path, seed: int, answers: int, odds: float = 0.4) -> int:
    """How many lies were told, all of them in vain; raises AssertionError, with the seed and the lies, when one was not."""
    told, number = 0, 0
    while told < answers:
        number += 1
        told += one_round(fresh, home / str(number), f"{seed}:{number}", odds)
    return told


def one_round(fresh: Callable[[], Any], home: Path, seed: str, odds: float = 0.4) -> int:
    """How many lies one round told."""
    ids = questions(random.Random(seed), 24)
    with fresh() as engine:
        right = truth(engine, home / "truth", ids)
    with fresh() as engine, StandIn(NO_LIMITS) as standin:
        liar = Liar(seed, odds)
        for attempt in range(4):
            standin.change = liar if attempt < 3 else None
            _one(engine, standin, home, ids, right, f"seed {seed}, attempt {attempt}", liar)
        missing = right["cells"] - known(engine)["cells"]
        assert not missing, f"seed {seed}: {list(missing)[:3]} is not there in the end\n" + "\n".join(liar.told)[-9000:]
    return len(liar.told)


def _one(engine: Engine, standin: StandIn, home: Path, ids: tuple[str, ...], right: Known, said: str, liar: Liar) -> None:
    started = time.monotonic()
    try:
        run(engine, standin, home, ids, retry_failed=True)
    except MkmedError as error:
        assert standin.change is not None, f"{said}: {error}"
    except Exception as error:
        raise AssertionError(f"{said}: {error!r}\n" + "\n".join(liar.told[-40:])) from error
    assert time.monotonic() - started < 120, f"{said}: it hung"
    assert sound(engine)
    for name, found in known(engine).items():
        wrong = found - right[name]
        assert not wrong, f"{said}: {name}: {list(wrong)[:3]}\n" + "\n".join(liar.told)[-6000:]


def one_compound(fresh: Callable[[], Any], home: Path, seed: int, cid: int) -> None:
    """All answers about one compound are lies; everything about the others must be there after one run."""
    chance = random.Random(f"{seed}:{cid}")
    ids = tuple(map(str, {cid, *chance.sample(list(catalogue.compounds()), 8)}))
    with fresh() as engine:
        right = truth(engine, home / "truth", ids)
    with fresh() as engine, StandIn(NO_LIMITS) as standin:
        liar = Liar(f"{seed}:{cid}", 1.0, frozenset({cid}))
        standin.change = liar
        _one(engine, standin, home, ids, right, f"seed {seed}, CID {cid}", liar)
        own = f"pubchem.compound:{cid}"
        missing = {row for row in right["cells"] if row[0] != own} - known(engine)["cells"]
        assert not missing, f"seed {seed}, CID {cid}: {list(missing)[:3]}\n" + "\n".join(liar.told)[-6000:]


@contextmanager
def no_policy(monkeypatch: Any) -> Iterator[None]:
    """The source with a policy that has no time for PubChem's."""
    from kb.sources.pubchem.source import PubChem

    with monkeypatch.context() as patch:
        patch.setattr(PubChem, "policy", QUICK)
        yield
