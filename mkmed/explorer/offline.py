"""The explorer as one file that needs no service: everything it shows lies packed inside, and nothing is asked for.

Data lie in script elements that the browser does not run: names and map as JSON, the cards of a few hundred drugs each
as JSON, gzip and base64, unpacked when one of them is looked at (``DecompressionStream``). The page's own policy
forbids every request.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from kb.errors import NotFound
from kb.files import replace_file, require_place
from kb.ledger.entries import program_version
from kb.output import plain
from mkmed.explorer import files

if TYPE_CHECKING:
    from mkmed.serve.answers import Answers

SHARD = 200
"""Drugs whose cards are unpacked together."""
NEAREST = 10
MODALITIES = ("fused", "molecule", "text", "image", "structure", "property", "graph")
SYNONYMS = text("SELECT drug_id, name FROM mkmed.names ORDER BY drug_id, length(name), name")
EVERY = text("SELECT drug_id, name FROM mkmed.drugs ORDER BY drug_id")
POLICY = ("default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
          "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'")
"""No address may be asked; 3Dmol.js compiles a parser of its own."""

Card = dict[str, Any]


def write(answers: Answers, path: Path, told: Callable[[str], None] = lambda _: None) -> Path:
    """Write the explorer of what ``answers`` sees to ``path``, and return that path.

    ``told`` is called with a word of progress now and then. Patients are not in it: no recommender is packed.
    """
    require_place(path)
    with answers.engine.connect() as connection:
        drugs = [(int(row[0]), str(row[1])) for row in connection.execute(EVERY)]
        names: dict[int, list[str]] = {drug_id: [] for drug_id, _ in drugs}
        for drug_id, name in connection.execute(SYNONYMS):
            names.get(drug_id, []).append(name)
    near = _nearest(answers, dict(drugs))
    core = {"drugs": drugs, "names": [names[drug_id] for drug_id, _ in drugs], "map": answers.map,
            "buckets": answers.buckets(), "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "version": program_version(), "shard": SHARD,
            "runs": [{**run, "curves": answers.curves(run["run"])} for run in answers.runs()]}

    def shards() -> Iterable[list[Card]]:
        for first in range(0, len(drugs), SHARD):
            told(f"cards of {min(first + SHARD, len(drugs)):,} of {len(drugs):,} drugs")
            cards = answers.cards([drug_id for drug_id, _ in drugs[first:first + SHARD]])
            yield [{**card, "near": near.get(card["drug_id"], {})} for card in cards]

    replace_file(path, page(core, shards()).encode(), mode=None)
    return path


def page(core: Mapping[str, Any], shards: Iterable[list[Card]]) -> str:
    """The file's text: the explorer's page with its style, scripts and data inside."""
    html, style, script, viewer = (files.read(name)[0].decode() for name in (
        "/", "/explorer/style.css", "/explorer/explorer.js", "/explorer/3Dmol-min.js"))
    head = f'<meta http-equiv="content-security-policy" content="{POLICY}">\n<style>\n{style}</style>'
    html = html.replace('<link rel="stylesheet" href="/explorer/style.css">', head)
    data = (_packed(f"cards-{n}", cards) for n, cards in enumerate(shards))
    # What is needed at once is not packed, and the script stands before the cards: it works before all is read.
    inside = "\n".join([f'<script type="application/json" id="core">{_json(core)}</script>', _script(script),
                        _script(viewer), *data])
    return re.sub(r'<script src="/explorer/3Dmol-min\.js" defer></script>\s*'
                  r'<script src="/explorer/explorer\.js" defer></script>', lambda _: inside, html)


def _script(source: str) -> str:
    harmless = re.sub("</(?=script)", r"<\\/", source, flags=re.IGNORECASE)
    return f"<script>{harmless}</script>"


def _json(value: Any) -> str:
    """Compact JSON that ends no script element and opens no comment in it."""
    return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _packed(name: str, value: Any) -> str:
    data = gzip.compress(_json(value).encode(), 6, mtime=0)
    return f'<script type="text/plain" id="{name}">{base64.b64encode(data).decode()}</script>'


def _nearest(answers: Answers, names: Mapping[int, str]) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """By drug and modality its nearest neighbours among the published vectors, by cosine."""
    from embed.runs import store

    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    codes: dict[int, list[str]] = {}
    with answers.engine.connect() as connection:
        for drug_id, code in connection.execute(text("SELECT drug_id, code FROM mkmed.atc ORDER BY drug_id, code")):
            codes.setdefault(drug_id, []).append(code)
    for modality in MODALITIES:
        try:
            vectors = store.read_published(answers.engine, modality)
        except NotFound:
            continue
        kept = np.flatnonzero(np.isin(vectors.drug_ids, np.fromiter(names, np.int64, len(names))))
        ids = vectors.drug_ids[kept]
        rests = [[name for name, has in zip(store.RESTS_ON, row, strict=True) if has] for row in vectors.rests_on[kept]]
        for row, (places, scores) in enumerate(nearest_of_all(vectors.matrix[kept], NEAREST)):
            found.setdefault(int(ids[row]), {})[modality] = [
                {"drug_id": int(ids[place]), "name": names[int(ids[place])], "similarity": round(float(score), 4),
                 "rests_on": rests[place], "atc_codes": codes.get(int(ids[place]), [])[:4]}
                for place, score in zip(places, scores, strict=True)]
    return found


def nearest_of_all(
    matrix: NDArray[np.float32], k: int, block: int = 1024
) -> Iterable[tuple[NDArray[np.int64], NDArray[Any]]]:
    """For each row of ``matrix`` [N, D] the ``k`` other rows of largest cosine, and those cosines, in falling order."""
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    k = min(k, len(unit) - 1)
    for first in range(0, len(unit), block):
        cosines = unit[first:first + block] @ unit.T
        rows = np.arange(len(cosines))
        cosines[rows, first + rows] = -np.inf
        best = np.argpartition(-cosines, k - 1, axis=1)[:, :k] if k > 0 else np.zeros((len(rows), 0), np.int64)
        for row in rows:
            order = best[row][np.argsort(-cosines[row, best[row]], kind="stable")]
            yield order, cosines[row, order]
