"""ChEMBL (EMBL-EBI), its SQLite release: clinical molecules with structures, names, ATC codes, mechanisms, indications.

Read row by row, so that memory does not grow with the release. Molecules without a clinical phase, an ATC code, a
mechanism or an indication are counted and left out. Mechanisms, bioactivities (the mean pChEMBL value of a molecule at
a target) and parents go to the graph.

Source: the schema documentation of ChEMBL 33, https://ftp.ebi.ac.uk/pub/databases/chembl/ChEMBLdb/latest/.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kb.errors import DataError, SourceError
from kb.graph.tables import DescribedRelation
from kb.graph.words import EdgeNote
from kb.inputs import open_regular
from kb.licences import LICENCES, Licence
from kb.normalise import Identifier
from kb.sources.contract import AtcRecord, Document, IndicationRecord, Name
from kb.sources.stream import Edges, Entry, Left, StreamSource, make_drug

MAGIC = b"SQLite format 3\x00"
NEEDED = {
    "molecule_dictionary": ("molregno", "pref_name", "chembl_id", "max_phase", "molecule_type"),
    "compound_structures": ("molregno", "standard_inchi_key", "canonical_smiles"),
    "molecule_synonyms": ("molregno", "syn_type", "synonyms"),
    "molecule_atc_classification": ("molregno", "level5"),
    "molecule_hierarchy": ("molregno", "parent_molregno"),
    "drug_mechanism": ("molregno", "mechanism_of_action", "tid", "action_type"),
    "target_dictionary": ("tid", "pref_name", "chembl_id", "organism"),
    "drug_indication": ("molregno", "max_phase_for_ind", "mesh_id", "mesh_heading", "efo_id", "efo_term"),
}
BIOACTIVITY = {"activities": ("molregno", "assay_id", "pchembl_value"), "assays": ("assay_id", "tid")}
BRAND = "TRADE_NAME"
POTENT = 6.0
"""The mean pChEMBL value from which a molecule counts as active at a target: 1 µM."""
PROVIDER = "ChEMBL"


@dataclass(slots=True)
class Said:
    """What the smaller tables say of the wanted molecules, by molregno."""

    atc: dict[int, list[str]]
    names: dict[int, list[Name]]
    indications: dict[int, list[sqlite3.Row]]



class Chembl(StreamSource):
    """The clinical part of a ChEMBL release."""

    name = "chembl"
    title = "ChEMBL"
    url = "https://www.ebi.ac.uk/chembl/"
    licences: ClassVar[tuple[Licence, ...]] = (LICENCES["CC-BY-SA-3.0"],)
    parser = "chembl/1"
    media_type = "application/vnd.sqlite3"
    bytes_an_item = 9000

    def version(self, path: Path) -> str | None:
        """The release, as the table ``version`` names it."""
        with _opened(path) as base:
            if not _has(base, "version", ("name",)):
                return None
            row = base.execute("SELECT name FROM version ORDER BY name LIMIT 1").fetchone()
            return str(row[0]) if row else None

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Left]:
        """Every clinical molecule in the order of its number."""
        with _opened(path) as base:
            wanted = _wanted(base)
            said = _said(base, wanted)
            query = ("SELECT d.molregno, d.pref_name, d.chembl_id, d.molecule_type, s.canonical_smiles,"
                     " s.standard_inchi_key FROM molecule_dictionary d LEFT JOIN compound_structures s"
                     " ON s.molregno = d.molregno ORDER BY d.molregno")
            left = 0
            for row in base.execute(query):
                if row["molregno"] in wanted:
                    yield _entry(row, said, document)
                else:
                    left += 1
            if left:
                yield Left("without a clinical phase, code, mechanism or indication", items=left)

    def edges(self, path: Path, document: Document) -> Edges:
        """Mechanisms, bioactivities and parents of the clinical molecules."""
        with _opened(path) as base:
            wanted = _wanted(base)
            ids = {row[0]: row[1] for row in base.execute("SELECT molregno, chembl_id FROM molecule_dictionary")
                   if row[0] in wanted}
            rows = base.execute("SELECT tid, pref_name, chembl_id FROM target_dictionary")
            targets = {row["tid"]: row for row in rows}
            edges = Edges()
            for row in base.execute("SELECT molregno, tid, mechanism_of_action, action_type FROM drug_mechanism"
                                    " ORDER BY molregno, tid, action_type, mechanism_of_action"):
                if row["molregno"] in ids and row["tid"] in targets:
                    word = re.sub(r"[^a-z0-9]+", "_", (row["action_type"] or "acts on").lower()).strip("_")
                    _target(edges, ids[row["molregno"]], word, targets[row["tid"]], document,
                            EdgeNote(evidence=row["mechanism_of_action"]))
            for (molecule, tid), (number, total) in sorted(_activities(base, set(ids)).items()):
                if tid in targets and total / number >= POTENT:
                    note = EdgeNote(score=round(total / number, 2), evidence=f"mean pChEMBL of {number} measurements")
                    _target(edges, ids[molecule], "active_at", targets[tid], document, note)
            for child, parent in base.execute("SELECT molregno, parent_molregno FROM molecule_hierarchy"):
                if child in ids and parent in ids and child != parent:
                    relation = _relation("parent", "Compound", document)
                    edges.add(f"Compound::{ids[child]}", relation, f"Compound::{ids[parent]}")
            return edges


def _relation(word: str, tail: str, document: Document) -> DescribedRelation:
    return DescribedRelation(f"ChEMBL::{word}::Compound:{tail}", "Compound", tail, PROVIDER, document.licence)


def _target(edges: Edges, molecule: str, word: str, target: sqlite3.Row, document: Document, note: EdgeNote) -> None:
    entity = f"Target::{target['chembl_id']}"
    edges.add(f"Compound::{molecule}", _relation(word, "Target", document), entity, note)
    if target["pref_name"]:
        edges.labels[entity] = target["pref_name"]


def _entry(row: sqlite3.Row, said: Said, document: Document) -> Entry:
    number, key = row["molregno"], f"chembl:{row['chembl_id']}"
    drug, faults = make_drug(
        key, row["pref_name"] or row["chembl_id"], document, smiles=row["canonical_smiles"],
        inchikey=row["standard_inchi_key"], identifiers=[("chembl", row["chembl_id"])],
        names=said.names.get(number, ()),
        kind="small molecule" if row["molecule_type"] == "Small molecule" else
        "biologic" if row["molecule_type"] in ("Protein", "Antibody", "Enzyme", "Oligonucleotide") else "unknown",
    )
    atc = []
    for code in said.atc.get(number, ()):
        try:
            atc.append(AtcRecord(key, document, Identifier.make("atc", code).value))
        except DataError as error:
            faults.append(f"{key}: {error.message}")
    indications = [_indication(key, i, document) for i in said.indications.get(number, ())]
    return Entry(drug, atc=atc, indications=[i for i in indications if i], faults=faults)


def _indication(key: str, row: sqlite3.Row, document: Document) -> IndicationRecord | None:
    disease = row["mesh_heading"] or row["efo_term"]
    if not disease:
        return None
    ids = [f"mesh:{row['mesh_id']}"] if row["mesh_id"] else []
    ids += [str(row["efo_id"]).lower().replace("_", ":")] if row["efo_id"] else []
    phase = row["max_phase_for_ind"]
    return IndicationRecord(key, document, PROVIDER, document.licence, disease, disease_ids=tuple(ids),
                            phase=None if phase is None else float(phase), evidence="highest phase of the trials")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, read-only and without what a hostile file could run; raises SourceError for another schema."""
    with open_regular(path, "--path") as raw:
        if raw.read(len(MAGIC)) != MAGIC:
            raise SourceError(f"{path.name} is no SQLite database",
                              hint="unpack chembl_NN_sqlite.tar.gz and give the file chembl_NN.db")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as base:
        base.row_factory = sqlite3.Row
        try:
            for setting in ("query_only = on", "trusted_schema = off", "cell_size_check = on", "temp_store = file"):
                base.execute(f"PRAGMA {setting}")
            for table, columns in NEEDED.items():
                if not _has(base, table, columns):
                    raise SourceError(f"{path.name} has no table {table} with {', '.join(columns)}",
                                      hint="is it the SQLite release of ChEMBL?")
            yield base
        except sqlite3.DatabaseError as error:
            raise SourceError(f"{path.name} is damaged: {error}", hint="download it again") from None


def _has(base: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> bool:
    """Whether there is such a table, and no view of that name."""
    kind = base.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    if kind is None or kind[0] != "table":
        return False
    return set(columns) <= {row[1] for row in base.execute(f"PRAGMA table_info({table})")}


def _wanted(base: sqlite3.Connection) -> set[int]:
    """The numbers of the molecules that somebody has tried in people, classified or explained."""
    found: set[int] = set()
    for query in ("SELECT molregno FROM molecule_dictionary WHERE CAST(max_phase AS real) > 0",
                  "SELECT molregno FROM drug_mechanism", "SELECT molregno FROM drug_indication",
                  "SELECT molregno FROM molecule_atc_classification"):
        found |= {row[0] for row in base.execute(query)}
    return found


def _said(base: sqlite3.Connection, wanted: set[int]) -> Said:
    said = Said(defaultdict(list), defaultdict(list), defaultdict(list))
    for molregno, code in base.execute("SELECT molregno, level5 FROM molecule_atc_classification ORDER BY 1, 2"):
        said.atc[molregno].append(code)
    rows = base.execute("SELECT molregno, syn_type, synonyms FROM molecule_synonyms ORDER BY 1, 3, 2")
    for molregno, kind, text in rows:
        if molregno in wanted and text:
            said.names[molregno].append(Name(text, "brand" if kind == BRAND else "synonym"))
    order = "ORDER BY molregno, mesh_id, efo_id, max_phase_for_ind"
    for row in base.execute(f"SELECT * FROM drug_indication {order}"):  # noqa: S608
        said.indications[row["molregno"]].append(row)
    return said


def _activities(base: sqlite3.Connection, wanted: set[int]) -> dict[tuple[int, Any], tuple[int, float]]:
    """Number and sum of the pChEMBL values by molecule and target."""
    found: dict[tuple[int, Any], tuple[int, float]] = {}
    if not all(_has(base, table, columns) for table, columns in BIOACTIVITY.items()):
        return found
    target_of = dict(base.execute("SELECT assay_id, tid FROM assays WHERE tid IS NOT NULL"))
    rows = base.execute("SELECT molregno, assay_id, pchembl_value FROM activities WHERE pchembl_value IS NOT NULL")
    for molregno, assay, value in rows:
        if molregno in wanted and assay in target_of:
            number, total = found.get((molregno, target_of[assay]), (0, 0.0))
            found[molregno, target_of[assay]] = number + 1, total + float(value)
    return found
