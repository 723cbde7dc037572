"""The targets of a compound, which PUG View does not say itself: it names a table, and who is quoted in it.

A record has under ``HEADING`` no texts but the name of an external table, once for each source that it quotes, with the
licence in the record's references. The rows are asked for as PubChem's own pages do (``/sdq/sdqagent.cgi``), and only
those columns that are read: of others the service's JSON is not always whole. That service has been seen to pass over
the CID that it was asked for, so every row must be of the compound; an empty table is no proof of anything.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from kb.licences import NCBI, UNSTATED, Licence, most_restrictive
from kb.normalise import clean, tidy
from kb.sources.pubchem.parse import HEADINGS, Cid, Strict, View, load_json, validated
from kb.sources.pubchem.proof import BodyError, ContentError, licence_of

HEADING = HEADINGS["targets"]
TABLE = "consolidatedcompoundtarget"
MOST = 10_000
"""Rows of one compound; a table that has more is not taken."""


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _word(value: Any) -> Any:
    if value is None:
        return ""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Word = Annotated[str, BeforeValidator(_word), Field(max_length=2000)]


class TargetRow(Strict):
    """A row of the table as the service names its columns: what a source says of the compound at one target."""

    cid: Annotated[Cid, BeforeValidator(_number)]
    dsn: Word
    """The source, as the references of PUG View name it."""
    protname: Word = ""
    srctargetname: Word = ""
    genename: Word = ""
    protacxn: Word = ""
    taxname: Word = ""
    action: Word = ""
    actname: Word = ""
    actvalue: Word = ""

    def target(self) -> str:
        """Name, gene, accession and organism of the target; empty where the row names none."""
        name = tidy(self.protname) or tidy(self.srctargetname) or tidy(self.genename)
        more = [said for said in map(tidy, (self.genename, self.protacxn, self.taxname)) if said and said != name]
        return f"{name} ({', '.join(more)})" if name and more else name

    def does(self) -> str:
        """What the compound does there, and at which concentration."""
        measured = " ".join(filter(None, map(tidy, (self.actname, self.actvalue)))) if self.actvalue.strip() else ""
        return ", ".join(filter(None, (tidy(self.action).lower(), measured)))


@dataclass(frozen=True, slots=True)
class Quoted:
    """Who is quoted in the table: by the name of the source its licence and page; and the licence of the whole."""

    by_name: Mapping[str, tuple[Licence, str | None]]
    licence: Licence


def parse_quoted(body: bytes, asked: frozenset[int]) -> Quoted:
    """The sources that a PUG View record has for its table of targets; raises ContentError where it names no table."""
    document = load_json(body)
    if "Record" not in document:
        raise BodyError("no record")
    record = validated(View, document["Record"], "the record")
    if record.cid not in asked:
        raise ContentError("the record is of a compound that was not asked for")
    named = {i.reference for section in record.walk() if section.heading == HEADING for i in section.information
             if TABLE in (i.value.table or "")}
    if not named:
        raise ContentError(f"a record without the table {TABLE} under {HEADING}")
    found: dict[str, tuple[Licence, str | None]] = {}
    for reference in record.references:
        name = tidy(reference.source)
        licence = licence_of(name, reference.licence_note, reference.licence_url)
        found[name] = most_restrictive([licence, found.get(name, (licence, ""))[0]]), reference.url
    return Quoted(found, most_restrictive([NCBI, *(licence for licence, _ in found.values())]))


def parse_targets(body: bytes, asked: frozenset[int]) -> tuple[TargetRow, ...]:
    """The rows of the table; raises ContentError for a row of another compound, for none at all, and for too many."""
    listed = load_json(b'{"rows": ' + body + b"}").get("rows")
    if not isinstance(listed, list):
        raise BodyError("no list of targets")
    if not listed or len(listed) >= MOST:
        raise ContentError(f"a table of {len(listed):,} targets")
    rows = tuple(validated(TargetRow, row, "a row of targets") for row in listed)
    other = next((row.cid for row in rows if row.cid not in asked), None)
    if other is not None:
        raise ContentError(f"the table of targets is that of CID {other}, which was not asked for")
    return rows


def question(cid: int) -> dict[str, str]:
    """The parameters that ask for the rows of one compound."""
    query = {"download": list(TargetRow.model_fields), "collection": TABLE, "where": {"ands": [{"cid": str(cid)}]},
             "order": ["dsn,asc"], "start": 1, "limit": MOST}
    return {"infmt": "json", "outfmt": "json", "query": json.dumps(query)}


def told(rows: Sequence[TargetRow], quoted: Quoted) -> list[tuple[str, str, Licence, str | None]]:
    """(source, its targets as a text, licence, page), one a source; of a source that nobody vouches for unstated."""
    said: dict[str, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.target() and tidy(row.dsn):
            said[tidy(row.dsn)][row.target()].update(dict.fromkeys(filter(None, [row.does()])))
    found = []
    for name in sorted(said):
        lines = [f"{target}: {'; '.join(sorted(does))}" if does else target
                 for target, does in sorted(said[name].items())]
        licence, page = quoted.by_name.get(name, (UNSTATED, None))
        found.append((name, clean("\n".join(lines)), licence, page))
    return found
