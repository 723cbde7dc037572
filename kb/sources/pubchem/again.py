"""Reads the licences of texts again, from the answers that are kept, where an older release may have misread them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, text

from kb.ledger.licences import write_licences
from kb.licences import LICENCES, UNSTATED, Licence, most_restrictive
from kb.normalise import clean
from kb.sources.pubchem.parse import parse_view
from kb.sources.pubchem.proof import licence_of

_STORED = """
SELECT t.artifact, t.provider, t.content_sha256, t.licence_id, c.payload, a.licence_id AS whole
FROM mkmed.text t JOIN mkmed.artifact a ON a.id = t.artifact JOIN mkmed.run r ON r.id = a.run_id
JOIN mkmed.content c ON c.sha256 = a.content
WHERE t.source = 'pubchem' AND r.version LIKE '0.1.%' ORDER BY t.artifact
"""


def read_licences_again(connection: Connection) -> int:
    """How many texts of release 0.1.0 have another licence now; what they were filed under stays in the history.

    A text whose answer is not kept, cannot be read or does not contain it is closed: its licence is unstated. An answer
    has the most restrictive licence of what it quotes.
    """
    answers: dict[bytes, list[Any]] = defaultdict(list)
    for row in connection.execute(text(_STORED)):
        answers[bytes(row.artifact)].append(row)
    changed = 0
    for artifact, rows in answers.items():
        stated, whole = _licences(rows[0].payload)
        write_licences(connection, {UNSTATED, whole, *stated.values()})
        for row in rows:
            licence = stated.get((row.provider, bytes(row.content_sha256)), UNSTATED)
            if licence.id != row.licence_id:
                told = {"licence": licence.id, "artifact": artifact, "provider": row.provider,
                        "content": row.content_sha256}
                changed += connection.execute(
                    text("UPDATE mkmed.text SET licence_id = :licence WHERE artifact = :artifact"
                         " AND provider = :provider AND content_sha256 = :content"), told
                ).rowcount
        if whole.id != rows[0].whole:
            connection.execute(text("UPDATE mkmed.artifact SET licence_id = :licence WHERE id = :artifact"),
                               {"licence": whole.id, "artifact": artifact})
    return changed


def _licences(payload: Any) -> tuple[dict[tuple[str, bytes], Licence], Licence]:
    """The licence of every text of an answer by provider and sha256, and of the answer; unstated if it is broken."""
    try:
        body = bytes(payload or b"")
        cid = int(json.loads(body)["Record"]["RecordNumber"])
        texts = parse_view(body, frozenset({cid}))
    except (ValueError, KeyError, TypeError):
        return {}, UNSTATED
    found: dict[tuple[str, bytes], Licence] = {}
    for passage in texts.passages:
        key = (clean(passage.provider), hashlib.sha256(clean(passage.content).encode()).digest())
        licence = licence_of(passage.provider, passage.licence_note, passage.licence_url)
        found[key] = most_restrictive([found.get(key, licence), licence])
    return found, LICENCES[texts.licence.id]
