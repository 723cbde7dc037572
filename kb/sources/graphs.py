"""Knowledge graphs by edge lists: Hetionet, PrimeKG, and any table of the user's (TSV, CSV or KGX).

Every edge keeps its source, provider and licence, and where the file says so a score, evidence and a reference; further
columns stand in its properties. What the relations are called in one vocabulary is the column ``word`` of
``mkmed.relations``.
"""

from __future__ import annotations

import bz2
import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kb import output
from kb.diseases import with_codes
from kb.errors import SourceError, UsageError
from kb.graph.load import is_loaded
from kb.graph.tables import DescribedRelation
from kb.graph.words import EdgeNote
from kb.ingest.engine import register_source
from kb.inputs import Capped, open_plain, require_regular
from kb.licences import LICENCES, USER, Licence, recognise_licence
from kb.modalities import Modality
from kb.normalise import read_number
from kb.sources.contract import Document, IndicationRecord, Part, RecordBatch
from kb.sources.stream import STORED, UNPACKED, Edges, Entry, Left, StreamSource, account, given_file, load_graph
from kb.sources.tables.dataset import dataset_name, dataset_origin
from kb.sources.tables.read import Problem, UserTable, drugs_by_handle, write_problems

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from kb.ingest.engine import Job

PARSER = "graph/1"


class GraphSource(StreamSource):
    """A source that gives edges between entities, and no drug of its own."""

    modalities = (Modality.graph,)
    options = frozenset({"path", "url"})
    parser = PARSER
    media_type = "text/tab-separated-values"
    bytes_an_item = 60

    def entries(self, path: Path, document: Document) -> Iterator[Entry | Left]:
        """None: entities are linked to the drugs that are known."""
        return iter(())

    @abstractmethod
    def take(self, row: Mapping[str, str], edges: Edges, document: Document) -> str | None:
        """Add one row to the edges; or the reason why it is left out."""

    def rows(self, table: UserTable) -> Iterator[Mapping[str, str]]:
        """The rows of the file; what is malformed goes to the table's problems."""
        return (row for _, row in table.rows())

    def prepare(self, job: Job, edges: Edges, table: UserTable) -> None:
        """What is read of other files before the rows; nothing by default."""

    def read(self, job: Job) -> Iterator[Part]:
        """The whole graph in one transaction, unless it is loaded already; raises SourceError for a file cut off."""
        path = given_file(self, job)
        document = self.document(job, path)
        table, edges, rows = UserTable(path), Edges(), 0
        self.prepare(job, edges, table)
        if job.transact(lambda c: is_loaded(c, document.source, document.sha256)):
            output.say(f"{path.name} is loaded already")
            return
        for row in self.rows(table):
            rows += 1
            reason = self.take(row, edges, document)
            if reason:
                edges.left[reason] += 1
        cut = next((problem for problem in table.problems if problem.cut), None)
        if cut is not None:
            raise SourceError(f"{path.name} ends within line {cut.row}: {cut.reason}", hint="download it again")
        if table.problems:
            edges.left["malformed"] = len(table.problems)
            rows += len(table.problems)
        counts = {"items": rows, "taken": rows - edges.left.total()}
        counts |= {f"left out: {reason}": number for reason, number in edges.left.items()}
        ids = job.transact(lambda c: drugs_by_handle(c, [str(use.drug) for use in edges.uses]))
        known = [with_codes(replace(use, drug=ids[str(use.drug).lower()])) for use in edges.uses
                 if str(use.drug).lower() in ids]
        batch = RecordBatch(documents=[document], indications=known, whole=True)

        def then() -> None:
            job.counts.update({**counts, "edges": len(edges), "indications": len(known)})
            output.say(account(path.name, counts))
            if edges.uses:
                output.say(f"{len(known):,} of {len(edges.uses):,} indications are of drugs that are known")

        def also(connection: Connection, _: Mapping[str, int]) -> None:
            write_problems(connection, job.run_id, document.source, document, table.problems[:STORED])
            load_graph(connection, job, document, edges)

        yield Part(batch, source=document.source, also=also, then=then, note="read")


HETIONET_KINDS = {"A": "Anatomy", "C": "Compound", "D": "Disease", "G": "Gene", "S": "Symptom", "SE": "Side Effect",
                  "BP": "Biological Process", "CC": "Cellular Component", "MF": "Molecular Function", "PW": "Pathway",
                  "PC": "Pharmacologic Class"}
HETIONET_LICENCES = {
    **dict.fromkeys(("CtD", "CpD", "CrC", "DrD", "DpS", "DlA", "PCiC"), "CC0-1.0"),
    **dict.fromkeys(("GpBP", "GpCC", "GpMF"), "CC-BY-4.0"),
    "CcSE": "CC-BY-NC-SA-4.0",
}
"""By metaedge; of the others the licence differs from edge to edge, which the edge list does not say."""
HETIONET_USES = {"CtD": "indication", "CpD": "symptomatic"}


SAID = frozenset({"source", "sources", "license", "unbiased", "method", "url", "urls", "pubmed_ids"})
SCORES = ("z_score", "similarity", "log2_fold_change", "log_tf_idf", "affinity_nM", "p_fisher")
"""Properties of an edge that are numbers of its own, the first that is there its score."""


class Hetionet(GraphSource):
    """Hetionet v1.0: ``hetionet-v1.0.json.bz2``, whose edges have each its own licence and source.

    Or ``hetionet-v1.0-edges.sif.gz`` with ``--also nodes=hetionet-v1.0-nodes.tsv`` for names, which says neither: there
    a licence is that of the kind of edge, and closed where it differs from edge to edge.
    """

    name = "hetionet"
    title = "Hetionet v1.0"
    url = "https://github.com/hetio/hetionet"
    licences: ClassVar[tuple[Licence, ...]] = (
        LICENCES["LicenseRef-Hetionet"], *(known for known in LICENCES.values() if known.id != "LicenseRef-Hetionet"))
    parser = "hetionet/2"
    options = frozenset({"path", "url", "also"})

    def prepare(self, job: Job, edges: Edges, table: UserTable) -> None:
        """The names of the nodes."""
        nodes = _also(job, "nodes")
        if _is_json(table.path):
            if nodes is not None:
                raise UsageError("--also nodes=… is for the edge list", hint="the JSON has the names itself")
            for node in _items(table.path, "nodes.item"):
                if isinstance(node, dict) and node.get("name"):
                    edges.labels[f"{node.get('kind')}::{node.get('identifier')}"] = str(node["name"])
            return
        table.require({name: name for name in ("source", "metaedge", "target")})
        if nodes is not None:
            names = UserTable(nodes)
            names.require({"id": "id", "name": "name"})
            edges.labels.update((row["id"], row["name"]) for _, row in names.rows() if row["name"])

    def rows(self, table: UserTable) -> Iterator[Mapping[str, str]]:
        """The edges, those of the JSON in the columns of the edge list and further ones."""
        if not _is_json(table.path):
            for row in super().rows(table):  # of columns beside these the edge list has none, and none is believed
                yield {name: row[name] for name in ("source", "metaedge", "target")}
            return
        words = next((found for found in _items(table.path, "kind_to_abbrev") if isinstance(found, dict)), None)
        if words is None:
            raise SourceError(f"{table.path.name} has no kind_to_abbrev", hint="is it hetionet-v1.0.json.bz2?")
        for place, edge in enumerate(_items(table.path, "edges.item"), 1):
            try:
                yield _json_row(edge, words)
            except (KeyError, TypeError, ValueError) as error:
                table.problems.append(Problem(place, f"edge {place} is none: {error!r}"[:200]))

    def take(self, row: Mapping[str, str], edges: Edges, document: Document) -> str | None:
        """An edge under DRKG's name of its relation; treatments become indications too."""
        head, metaedge, tail = row["source"], row["metaedge"], row["target"]
        found = re.fullmatch(r"([A-Z]+)[a-z]+>?([A-Z]+)", metaedge)
        kinds = [HETIONET_KINDS.get(letters) for letters in found.groups()] if found else []
        if len(kinds) != 2 or None in kinds:
            return "with an unknown metaedge"
        if "::" not in head or "::" not in tail:
            return "without two nodes"
        licence, provider = HETIONET_LICENCES.get(metaedge, "LicenseRef-Hetionet"), self.title
        if "licence" in row:
            stated = recognise_licence(row["licence"])
            licence = stated.id if stated else "LicenseRef-Hetionet"
            provider = f"{row['provider']} ({self.title})" if row["provider"] else self.title
        name = f"Hetionet::{metaedge}::{kinds[0]}:{kinds[1]}"
        note = None
        if row.get("evidence") or row.get("reference") or row.get("score") or row.get("properties"):
            note = EdgeNote(read_number(row["score"]), row["evidence"] or None, row["reference"] or None,
                            json.loads(row["properties"] or "{}"))
        edges.add(head, DescribedRelation(name, str(kinds[0]), str(kinds[1]), provider, licence), tail, note)
        if metaedge in HETIONET_USES:
            disease = tail.partition("::")[2]
            edges.uses.append(IndicationRecord(
                f"drugbank:{head.partition('::')[2]}", document, "PharmacotherapyDB (Hetionet v1.0)", licence,
                edges.labels.get(tail, disease), HETIONET_USES[metaedge], (disease.replace("DOID:", "doid:"),)))
        return None


def _is_json(path: Path) -> bool:
    return path.name.lower().removesuffix(".bz2").removesuffix(".gz").endswith(".json")


def _items(path: Path, prefix: str) -> Iterator[Any]:
    """What stands at the prefix of the JSON, packed with bzip2 or not; raises SourceError for what is not whole."""
    import ijson

    with ExitStack() as stack:
        raw = stack.enter_context(open_plain(path, limit=UNPACKED))
        packed = raw.peek(3)[:3] == b"BZh"
        stream: Any = bz2.BZ2File(raw) if packed else raw
        try:
            yield from ijson.items(Capped(stream, UNPACKED, path.name), prefix, use_float=True)
        except (ijson.JSONError, UnicodeDecodeError, EOFError, OSError) as error:
            raise SourceError(f"{path.name} is not whole JSON: {error}", hint="download it again") from None


def _json_row(edge: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, str]:
    """An edge of the JSON in the columns of the edge list, with its licence, its sources and what else it says."""
    ends = [(str(edge[end][0]), str(edge[end][1])) for end in ("source_id", "target_id")]
    arrow = {"both": "", "forward": ">", "backward": "<"}[edge["direction"]]
    data = edge.get("data") or {}
    given = data.get("sources") or data.get("source") or ()
    sources = sorted(map(str, given)) if isinstance(given, list) else [str(given)] if given else []
    score = next((data[name] for name in SCORES if isinstance(data.get(name), int | float)), None)
    rest = {name: value if isinstance(value, str) else json.dumps(value)
            for name, value in sorted(data.items()) if name not in SAID}
    references = [data[name] for name in ("url", "urls", "pubmed_ids") if data.get(name)]
    said = [str(item) for found in references for item in (found if isinstance(found, list) else [found])]
    return {
        "source": f"{ends[0][0]}::{ends[0][1]}",
        "metaedge": f"{words[ends[0][0]]}{words[edge['kind']]}{arrow}{words[ends[1][0]]}",
        "target": f"{ends[1][0]}::{ends[1][1]}",
        "licence": str(data.get("license") or ""),
        "provider": ", ".join(sources),
        "score": "" if score is None else str(score),
        "evidence": str(data.get("method") or ""),
        "reference": " ".join(said),
        "properties": json.dumps(rest) if rest else "",
    }


PRIMEKG_KINDS = {"drug": "Compound", "gene/protein": "Gene", "disease": "Disease", "effect/phenotype": "Phenotype",
                 "biological_process": "Biological Process", "molecular_function": "Molecular Function",
                 "cellular_component": "Cellular Component", "pathway": "Pathway", "anatomy": "Anatomy",
                 "exposure": "Exposure"}
PRIMEKG_HEADS = ("drug", "disease", "effect/phenotype", "exposure", "anatomy", "gene/protein")
"""Which of two types is the head of an edge: PrimeKG has every edge in both directions."""
PRIMEKG_USES = {"indication": "indication", "contraindication": "contraindication", "off-label use": "off-label"}
PRIMEKG_COLUMNS = ("relation", "x_id", "x_type", "x_name", "x_source", "y_id", "y_type", "y_name", "y_source")


class PrimeKg(GraphSource):
    """PrimeKG (Chandak et al. 2023): ``kg.csv``; its drug–disease edges become (contra)indications too."""

    name = "primekg"
    title = "PrimeKG"
    url = "https://github.com/mims-harvard/PrimeKG"
    licences: ClassVar[tuple[Licence, ...]] = (LICENCES["LicenseRef-PrimeKG"], LICENCES["CC-BY-SA-4.0"])
    media_type = "text/csv"
    bytes_an_item = 120

    def prepare(self, job: Job, edges: Edges, table: UserTable) -> None:
        """Refuse another table."""
        table.require({name: name for name in PRIMEKG_COLUMNS})

    def take(self, row: Mapping[str, str], edges: Edges, document: Document) -> str | None:
        """The edge in one direction; drug–disease edges are DrugCentral's, and keep its licence."""
        kinds = [PRIMEKG_KINDS.get(row["x_type"]), PRIMEKG_KINDS.get(row["y_type"])]
        if None in kinds:
            return "with an unknown type of node"
        if not row["x_id"] or not row["y_id"]:
            return "without two nodes"
        places = [PRIMEKG_HEADS.index(t) if t in PRIMEKG_HEADS else 9 for t in (row["x_type"], row["y_type"])]
        if (places[0], row["x_type"], row["x_id"]) > (places[1], row["y_type"], row["y_id"]):
            return "that are an edge the other way round"
        head, tail = (f"{kind}::{_primekg_id(row, side)}" for kind, side in zip(kinds, "xy", strict=True))
        use = PRIMEKG_USES.get(row["relation"])
        licence = "CC-BY-SA-4.0" if use else self.licences[0].id
        name, shown = f"PrimeKG::{row['relation']}::{kinds[0]}:{kinds[1]}", row.get("display_relation") or None
        edges.add(head, DescribedRelation(name, str(kinds[0]), str(kinds[1]), self.title, licence, shown), tail)
        edges.labels.update({head: row["x_name"], tail: row["y_name"]})
        if use:
            ids = tuple(f"mondo:{part}" for part in row["y_id"].split("_") if row["y_source"].startswith("MONDO"))
            edges.uses.append(IndicationRecord(f"drugbank:{row['x_id']}", document, "DrugCentral (PrimeKG)", licence,
                                               row["y_name"], use, ids))
        return None


def _primekg_id(row: Mapping[str, str], side: str) -> str:
    """The node's id with its prefix, where DRKG writes one: genes and DrugBank's drugs are bare there."""
    source, value = row[f"{side}_source"], row[f"{side}_id"]
    if source in ("DrugBank", "NCBI"):
        return value
    return f"{source.removesuffix('_grouped')}:{value}"


CATEGORIES = {**dict.fromkeys(("SmallMolecule", "Drug", "ChemicalEntity", "MolecularMixture"), "Compound"),
              "Gene": "Gene", "Protein": "Gene", "Disease": "Disease", "PhenotypicFeature": "Phenotype"}
"""Categories of the Biolink Model in DRKG's words; of others the words are taken apart."""
ROLES = ("head", "relation", "tail", "head_type", "tail_type", "score", "evidence", "reference", "provider")
KGX = {"head": "subject", "relation": "predicate", "tail": "object", "provider": "primary_knowledge_source",
       "reference": "publications", "evidence": "knowledge_level", "score": "score", "head_type": "subject_category",
       "tail_type": "object_category"}


class UserGraph(GraphSource):
    """A table of edges: columns head, relation and tail (or KGX's subject, predicate and object), and what else it has.

    A node is ``type::id``, or an id whose type stands in ``head_type`` and ``tail_type``, or in ``--also nodes=FILE``
    with columns id, category and name.
    """

    name = "graph"
    title = "the user's own graph"
    url = "file"
    origin = "user"
    licences: ClassVar[tuple[Licence, ...]] = (USER,)
    options = frozenset({"path", "url", "columns", "also", "dataset"})

    def __init__(self) -> None:
        self._columns: dict[str, str] = {}
        self._types: dict[str, str] = {}
        self._dataset = ""

    def document(self, job: Job, path: Path) -> Document:
        """The file, filed under its dataset."""
        self._dataset = dataset_name(job.options.dataset, path)
        origin = dataset_origin(self.name, self._dataset, self.title)
        job.transact(lambda c: register_source(c, origin))
        return replace(super().document(job, path), source=origin.name)

    def prepare(self, job: Job, edges: Edges, table: UserTable) -> None:
        """The columns, and types and names of nodes."""
        header = table.header()
        given = job.options.columns
        unknown = next((role for role in given if role not in ROLES), None)
        if unknown is not None:
            raise UsageError(f"unknown role {unknown!r}", hint=f"graph knows: {', '.join(ROLES)}")
        usual = {role: KGX[role] if KGX[role] in header else role for role in ROLES}
        self._columns = {role: given.get(role, usual[role]) for role in ROLES}
        table.require({role: self._columns[role] for role in ("head", "relation", "tail", *given)})
        nodes = _also(job, "nodes")
        if nodes is not None:
            names = UserTable(nodes)
            names.require({"id": "id"})
            for _, row in names.rows():
                self._types[row["id"]] = _category(row.get("category", ""))
                if row.get("name"):
                    edges.labels[f"{self._types[row['id']]}::{row['id']}"] = row["name"]

    def take(self, row: Mapping[str, str], edges: Edges, document: Document) -> str | None:
        """The edge with everything that the row says of it."""
        said = {role: row.get(column, "").strip() for role, column in self._columns.items()}
        ends = [self._node(said[role], said[f"{role}_type"]) for role in ("head", "tail")]
        if not said["relation"] or not all(ends):
            return "without relation and two typed nodes"
        head, tail = (str(end) for end in ends)
        provider = said["provider"] or self._dataset
        head_type, tail_type = (end.partition("::")[0] for end in (head, tail))
        name = f"{provider}::{said['relation'].removeprefix('biolink:')}::{head_type}:{tail_type}"
        relation = DescribedRelation(name, head_type, tail_type, provider, USER.id)
        score, rest = read_number(said["score"]), set(row) - set(self._columns.values())
        properties = {key: row[key] for key in sorted(rest) if row[key]}
        if said["score"] and score is None:
            properties["score"] = said["score"]
        note = EdgeNote(score, said["evidence"] or None, said["reference"] or None, properties)
        edges.add(head, relation, tail, note)
        return None

    def _node(self, name: str, kind: str) -> str | None:
        if not name:
            return None
        if "::" in name:
            return name
        known = self._types.get(name) or (_category(kind) if kind else "")
        return f"{known}::{name}" if known else None


def _category(text: str) -> str:
    """An entity type for a category: the first of several, without its prefix."""
    name = text.split("|")[0].split(",")[0].strip().removeprefix("biolink:")
    return CATEGORIES.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) or "Thing"


def _also(job: Job, role: str) -> Path | None:
    """The further file of this role; raises UsageError for any other role that was given."""
    other = next((name for name in job.options.also if name != role), None)
    if other is not None:
        raise UsageError(f"--also {other}=… is not known here", hint=f"--also {role}=FILE")
    path = job.options.also.get(role)
    return None if path is None else require_regular(path, f"--also {role}")
