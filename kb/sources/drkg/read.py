"""Reads a file of triples, head TAB relation TAB tail without a header, into dictionary-encoded columns.

Nothing is taken for a missing value (``NaN`` and the empty text are what they are) and no character is a quote.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.errors import SourceError
from kb.graph.encode import CodedTriples, encode_table, entity_type
from kb.graph.tables import DescribedRelation
from kb.inputs import FLOOR, is_gzip, is_tar, open_member, open_plain

if TYPE_CHECKING:
    import pyarrow as pa

MEMBER = "drkg.tsv"
LIMIT = 4 << 30
"""Bytes of the unpacked file; DRKG has about 380 MB."""
RATIO = 40
"""How many times its size a packed file may unpack to; DRKG's is about 6."""
COLUMNS = ("head", "relation", "tail")
BLOCK = 8 << 20
UNKNOWN_LICENCE = "LicenseRef-DRKG-unknown"


def read_triples(path: Path) -> CodedTriples:
    """The distinct triples of a ``.tsv``, ``.tsv.gz`` or ``.tar.gz``; raises SourceError for anything else."""
    return encode_table(_read_table(path))


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    text = pa.dictionary(pa.int32(), pa.string())
    options: dict[str, Any] = {
        "read_options": csv.ReadOptions(column_names=COLUMNS, block_size=BLOCK),
        "parse_options": csv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False, escape_char=False),
        "convert_options": csv.ConvertOptions(
            column_types=dict.fromkeys(COLUMNS, text), strings_can_be_null=False, null_values=[]
        ),
    }
    size = path.stat().st_size
    if not 0 < size <= LIMIT:
        what = f"has {size:,} bytes, more than {LIMIT:,}" if size else "is empty"
        raise SourceError(f"{path.name} {what}", hint="download it again")
    limit = min(LIMIT, max(FLOOR, RATIO * size))
    try:
        if is_tar(path):
            with open_member(path, MEMBER, limit) as stream:
                return csv.read_csv(stream, **options)
        if is_gzip(path):
            with open_plain(path, limit) as stream:
                return csv.read_csv(stream, **options)
        return csv.read_csv(str(path), **options)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0][:160]
        raise SourceError(
            f"{path.name} is not a table of triples: {reason}", hint="expected head TAB relation TAB tail"
        ) from None


def known_relations() -> dict[str, DescribedRelation]:
    """DRKG's 107 relations: types, provider, licence of the triples, and meaning."""
    lines = (files("kb") / "data" / "drkg_relations.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    return {
        name: DescribedRelation(name, h, t, provider, lic, text or None) for name, provider, h, t, lic, text in rows
    }


def describe_relations(triples: CodedTriples) -> dict[str, DescribedRelation]:
    """Every relation of the triples, the glossary's where it has it.

    Of others the types are those of their first triple, and the licence is unknown.
    """
    known = known_relations()
    described: dict[str, DescribedRelation] = {}
    for name in triples.rows_of:
        provider = name.partition("::")[0]
        described[name] = known.get(name) or DescribedRelation(name, "", "", provider, UNKNOWN_LICENCE)
    for code, name in enumerate(triples.relation_names):
        if name not in known:
            first = int((triples.relations == code).argmax())
            head, tail = triples.entities[triples.heads[first]], triples.entities[triples.tails[first]]
            described[name] = replace(described[name], head_type=entity_type(head), tail_type=entity_type(tail))
    return described
