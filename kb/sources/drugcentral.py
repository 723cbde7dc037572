"""DrugCentral (University of New Mexico): structures, names, codes, indications and contraindications from its dump.

Reads the COPY blocks of the plain SQL dump (``drugcentral.dump.*.sql.gz``) of the five tables below; nothing in it is
executed.

Source: https://drugcentral.org/download and its schema diagram.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from kb.errors import DataError, SourceError
from kb.inputs import open_plain, read_lines
from kb.licences import BY_SA, Licence
from kb.normalise import Identifier
from kb.sources.contract import AtcRecord, Document, IndicationRecord, Name
from kb.sources.stream import Entry, Left, StreamSource, make_drug

TABLES = {
    "structures": ("id", "name", "smiles", "inchikey", "cas_reg_no"),
    "synonyms": ("id", "name"),
    "identifier": ("struct_id", "id_type", "identifier"),
    "struct2atc": ("struct_id", "atc_code"),
    "omop_relationship": ("struct_id", "relationship_name", "concept_name", "umls_cui", "snomed_conceptid"),
}
"""Tables of the dump and the columns that are read."""
SPACES = {"DRUGBANK_ID": "drugbank", "CHEBI": "chebi", "ChEMBL_ID": "chembl", "UNII": "unii", "RXNORM": "rxcui",
          "PUBCHEM_CID": "pubchem.compound", "MESH_DESCRIPTOR_UI": "mesh", "MESH_SUPPLEMENTAL_RECORD_UI": "mesh"}
KINDS = {"indication": "indication", "contraindication": "contraindication", "off-label use": "off-label",
         "symptomatic treatment": "symptomatic"}
LONGEST = 1 << 22
COMPLETE = "-- PostgreSQL database dump complete"
"""The last words of a dump, behind which a table may be missing."""
UNPACKED = 1 << 35
_COPY = re.compile(r"COPY (?:public\.)?\"?(\w+)\"? \(([^)]*)\) FROM stdin;")
_ESCAPE = re.compile(r"\\(.)")
_MEANS = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}

Row = dict[str, str]


class DrugCentral(StreamSource):
    """Every structure of a dump with what the other tables say of it."""

    name = "drugcentral"
    title = "DrugCentral"
    url = "https://drugcentral.org"
    licences: ClassVar[tuple[Licence, ...]] = (BY_SA,)
    parser = "drugcentral/1"
    media_type = "application/sql"
    bytes_an_item = 2000

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Left]:
        """Every drug by its number; rows of the other tables that no drug has are left out."""
        tables: dict[str, dict[str, list[Row]]] = {name: defaultdict(list) for name in TABLES}
        left: Counter[str] = Counter()
        for place, table, row in read_dump(path):
            if row is None:
                yield Left("malformed", place, f"line {place}: not a row of {table}")
                continue
            number = row.get("struct_id") or row.get("id", "")
            if table == "omop_relationship" and row["relationship_name"] not in KINDS:
                left[f"of the relationship {row['relationship_name']!r}"] += 1
            else:
                tables[table][number].append(row)
        if not tables["structures"]:
            raise SourceError(f"{path.name} has no rows of the table structures", hint="is it DrugCentral's SQL dump?")
        for number in sorted(tables["structures"], key=lambda n: (len(n), n)):
            yield _entry(number, {name: rows.pop(number, []) for name, rows in tables.items()}, document)
        left["of no structure"] += sum(len(rows) for table in tables.values() for rows in table.values())
        yield from (Left(reason, items=count) for reason, count in left.items() if count)


def _entry(number: str, rows: dict[str, list[Row]], document: Document) -> Entry:
    about, key = rows["structures"][0], f"drugcentral:{number}"
    codes = [("drugcentral", number)] + ([("cas", about["cas_reg_no"])] if about["cas_reg_no"] else [])
    codes += [(SPACES[row["id_type"]], row["identifier"]) for row in rows["identifier"] if row["id_type"] in SPACES]
    drug, faults = make_drug(
        key, about["name"] or key, document, smiles=about["smiles"], inchikey=about["inchikey"], identifiers=codes,
        names=[Name(row["name"]) for row in rows["synonyms"]])
    atc = []
    for row in rows["struct2atc"]:
        try:
            atc.append(AtcRecord(key, document, Identifier.make("atc", row["atc_code"]).value))
        except DataError as error:
            faults.append(f"{key}: {error.message}")
    uses = [
        IndicationRecord(key, document, "DrugCentral", document.licence, row["concept_name"],
                         KINDS[row["relationship_name"]],
                         tuple(f"{space}:{row[column]}" for space, column in
                               (("umls", "umls_cui"), ("snomedct", "snomed_conceptid")) if row[column]))
        for row in rows["omop_relationship"] if row["concept_name"]
    ]
    return Entry(drug, atc=atc, indications=uses, faults=faults, items=sum(map(len, rows.values())))


def read_dump(path: Path) -> Iterator[tuple[int, str, Row | None]]:
    """(line, table, row) of the tables in ``TABLES``; None for a line that has not the block's columns.

    Raises SourceError for a block that lacks a column or does not end, and for a dump that ends before all tables.
    """
    table, columns = "", [""]
    wanted: tuple[str, ...] = ()
    with open_plain(path, limit=UNPACKED) as stream:
        seen: set[str] = set()
        for place, raw in enumerate(read_lines(stream, LONGEST), 1):
            line = raw.decode("utf-8", "replace").rstrip("\r\n") if raw is not None else ""
            if not table:
                if line == COMPLETE:
                    return
                begins = _COPY.match(line) if line.startswith("COPY ") else None
                if begins and begins[1] in TABLES:
                    table, wanted = begins[1], TABLES[begins[1]]
                    seen.add(table)
                    columns = [name.strip().strip('"') for name in begins[2].split(",")]
                    missing = [name for name in wanted if name not in columns]
                    if missing:
                        raise SourceError(f"table {table} of {path.name} has no column {missing[0]}",
                                          hint="the dump is of a version that is not known")
            elif line == "\\.":
                table = ""
            else:
                cells = line.split("\t")
                if len(cells) != len(columns):
                    yield place, table, None
                    continue
                row = dict(zip(columns, cells, strict=True))
                yield place, table, {name: _plain(row[name]) for name in wanted}
    if table:
        raise SourceError(f"{path.name} ends within the table {table}", hint="download it again")
    missing = sorted(TABLES.keys() - seen)
    if missing:
        raise SourceError(f"{path.name} ends without the end of a dump, and before the table {missing[0]}",
                          hint="download it again")


def _plain(cell: str) -> str:
    """The value of a cell of COPY's text format; NULL is the empty text."""
    return "" if cell == "\\N" else _ESCAPE.sub(lambda m: _MEANS.get(m[1], m[1]), cell).strip()
