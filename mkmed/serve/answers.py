"""What the service answers with, loaded once: the database for reading, the published run, the recommender."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Engine, text

from kb.chemistry import canonical, read_smiles
from kb.errors import NotFound
from kb.pictures import molecule_svg
from kb.query import find, tables
from kb.query.drug import describe
from kb.query.names import find_drug, find_drugs
from kb.settings import Settings

if TYPE_CHECKING:
    from embed.runs.embedder import Embedder
    from embed.search.molecules import MoleculeSearch
    from recsys.answers.patient import Patient
    from recsys.answers.recommend import Answer, RecommenderService

AMONG = text("""
    SELECT drug_a, drug_b, name_a, name_b, severity, provider, description, licence_id FROM mkmed.interactions
    WHERE drug_a = ANY (:ids) AND drug_b = ANY (:ids) ORDER BY drug_a, drug_b, provider""")


CELLS = text("""
    SELECT drug_id, modality, source, state, evidence::text AS evidence, last_error FROM mkmed.availability
    WHERE drug_id = ANY (:ids) ORDER BY drug_id, modality, source""")
SHAPES = text("""
    SELECT DISTINCT ON (drug_id) drug_id, molblock, source FROM mkmed.conformers WHERE drug_id = ANY (:ids)
    ORDER BY drug_id, source""")
BUCKETS = text("""
    SELECT image, text, structure, property, graph, count(*) AS drugs FROM mkmed.bucket
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC""")
ABOUT = text("""
    SELECT b.drug_id, b.name, min(left(a.code, 1)), b.modalities,
           concat_ws(' + ', CASE WHEN image THEN 'image' END, CASE WHEN text THEN 'text' END,
                     CASE WHEN structure THEN 'structure' END, CASE WHEN property THEN 'property' END,
                     CASE WHEN graph THEN 'graph' END)
    FROM mkmed.bucket b LEFT JOIN mkmed.atc a ON a.drug_id = b.drug_id
    GROUP BY b.drug_id, b.name, b.modalities, image, text, structure, property, graph""")
MOST_TEXTS, MOST_PAIRS = 12, 100


@dataclass
class Answers:
    """Every answer of the service as a plain value."""

    engine: Engine
    settings: Settings
    run: str = ""
    """The recommender's run; the latest one by default."""
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _titles: list[tuple[str, str]] | None = None

    def health(self) -> dict[str, Any]:
        """How many drugs there are, at which revision, and which runs answer."""
        with self.engine.connect() as connection:
            row = connection.execute(text(
                "SELECT (SELECT version_num FROM mkmed.schema_version), (SELECT count(*) FROM mkmed.drugs),"
                " (SELECT run_id::text FROM mkmed.published_run)")).one()
        return {"status": "ok", "revision": row[0], "drugs": row[1], "embedding_run": row[2]}

    def drug(self, wanted: str) -> dict[str, Any]:
        """Everything known of a drug: its row, and its sections."""
        with self.engine.connect() as connection:
            head, sections = describe(connection, wanted)
        return {**head, **sections}

    def resolve(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What each name may mean, the best candidates first."""
        with self.engine.connect() as connection:
            return [{"input": name, "candidates": [
                {"drug_id": c.drug_id, "name": c.name, "matched": c.matched, "how": c.how, "rank": c.rank}
                for c in find_drugs(connection, name)]} for name in names]

    def search(self, query: str, k: int) -> list[dict[str, Any]]:
        """Drugs by words in names and texts."""
        with self.engine.connect() as connection:
            return find.search_text(connection, query, k)

    def similar(self, smiles: str, k: int, at_least: float) -> list[dict[str, Any]]:
        """Drugs by Tanimoto similarity of Morgan bits."""
        return find.similar(self.engine, smiles, k, at_least=at_least)

    def substructure(self, smarts: str, k: int) -> list[dict[str, Any]]:
        """Drugs whose structure has a part."""
        return find.substructure(self.engine, smarts, k)

    def neighbours(self, drug: str, k: int, **options: Any) -> list[dict[str, Any]]:
        """The drugs most like a drug by the published vectors."""
        from embed.search.sql import neighbours

        return neighbours(self.engine, drug, k, **options)

    def interactions(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Statements among several drugs, or all those of a single one."""
        with self.engine.connect() as connection:
            ids = [find_drug(connection, name) for name in names]
            if len(ids) > 1:
                return [dict(row) for row in connection.execute(AMONG, {"ids": ids}).mappings()]
            return tables.table(connection, "interactions", ids)[1]

    def encode(self, smiles: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
        """The published run's vectors of molecules or of texts."""
        with self._loading:
            if smiles:
                settled = [canonical(read_smiles(one)) for one in smiles]
                vectors = self._molecules.encode(settled, skip=("structure", "image")).fused
            else:
                vectors = self._embedder.texts(texts)
        return {"run": str(self._embedder.artefact.run_id), "modality": "fused" if smiles else "text",
                "vectors": vectors.tolist()}

    def card(self, drug_id: int) -> dict[str, Any]:
        """What the explorer shows of a drug: its row, availability, texts, interactions, drawing and conformer."""
        found = self.cards([drug_id])
        if not found:
            raise NotFound(f"there is no drug {drug_id}", hint="ids are those of column drug_id")
        return found[0]

    def cards(self, drug_ids: Sequence[int]) -> list[dict[str, Any]]:
        """The cards of several drugs, in the order asked; none for an id that there is not."""
        ids = list(drug_ids)
        with self.engine.connect() as connection:
            heads, texts, pairs = (tables.table(connection, name, ids)[1]
                                   for name in ("drugs", "texts", "interactions"))
            cells = connection.execute(CELLS, {"ids": ids}).mappings().all()
            shapes = {row[0]: row for row in connection.execute(SHAPES, {"ids": ids})}
        own: dict[int, dict[str, list[dict[str, Any]]]] = {i: defaultdict(list) for i in ids}
        for cell in cells:
            own[cell["drug_id"]]["availability"].append({name: cell[name] for name in cell if name != "drug_id"})
        for row in texts:
            if not row["is_note"]:
                own[row["drug_id"]]["texts"].append(row)
        for row in pairs:
            for drug_id in {row["drug_a"], row["drug_b"]} & own.keys():
                own[drug_id]["interactions"].append(row)
        cards = []
        for head in heads:
            mine, shape = own[head["drug_id"]], shapes.get(head["drug_id"])
            cards.append({
                **head, "handle": str(head["identity"]).removeprefix("inchikey:"),
                "availability": mine["availability"], "texts": mine["texts"][:MOST_TEXTS],
                "interactions": mine["interactions"][:MOST_PAIRS], "molblock": shape[1] if shape else None,
                "molblock_source": shape[2] if shape else None,
                "picture": molecule_svg(head["smiles"], width=420, height=260) if head["smiles"] else None,
            })
        return cards

    def runs(self) -> list[dict[str, Any]]:
        """The runs on this disk, newest first: id, stage, what was trained, on what, its epochs and its main figure."""
        from embed.runs.folder import pretrain_folder
        from embed.runs.folder import read_metrics as pretrain_metrics
        from recsys.experiments.run_folders import list_run_folders

        rows = [{"run": row["run"], "stage": "recsys", "what": f"{row['recommender']} ({row['mode']})",
                 "on": row["cohort"], "seed": row["seed"], "epochs": row["epochs"], "started": row["started"],
                 "figure": None if row["jaccard"] is None else f"test Jaccard {row['jaccard']:.4f}"}
                for row in list_run_folders(self.settings)]
        for path in pretrain_folder(self.settings).glob("*/config.json"):
            config, epochs = json.loads(path.read_text()), pretrain_metrics(path.parent)
            best = max((row.get("recall@10") or 0.0 for row in epochs), default=None)
            rows.append({"run": path.parent.name, "stage": "pretrain", "what": "alignment", "on": "knowledge base",
                         "seed": config.get("seed"), "epochs": len(epochs),
                         "started": datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds"),
                         "figure": None if best is None else f"validation recall@10 {best:.4f}"})
        return sorted(rows, key=lambda row: str(row["started"]), reverse=True)

    def curves(self, run: str) -> list[dict[str, Any]]:
        """The metrics of a run by epoch; raises NotFound for a run that is not listed."""
        from embed.runs.folder import pretrain_folder
        from recsys.experiments.run_folders import read_metrics, runs_folder

        listed = {row["run"]: row["stage"] for row in self.runs()}
        if run not in listed:
            raise NotFound(f"there is no run {run}", hint="/api/runs lists them")
        above = runs_folder(self.settings) if listed[run] == "recsys" else pretrain_folder(self.settings)
        return [{name: value for name, value in row.items() if isinstance(value, int | float)}
                for row in read_metrics(above / run)]

    def buckets(self) -> list[dict[str, Any]]:
        """How many drugs have which combination of modalities."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(BUCKETS).mappings()]

    def codes(self, words: str, k: int) -> list[dict[str, str]]:
        """Diagnoses that the recommender knows, by words of their titles or by the beginning of their code."""
        wanted = words.lower().split()
        service = self.recommender
        if self._titles is None:
            known = service.vocabularies["diagnosis"].codes
            self._titles = [(code, service.meaning("diagnosis", code)) for code in known]
        hits = ({"code": code, "title": title} for code, title in self._titles
                if all(word in f"{code} {title}".lower() for word in wanted))
        return list(islice(hits, k))

    @cached_property
    def map(self) -> list[list[Any]]:
        """Every drug with a published vector: id, name, two coordinates from 0 to 1 (PCA), ATC level 1, number of
        modalities, and which.
        """
        from embed.runs import store

        found = store.read_published(self.engine)
        if not len(found.drug_ids):
            return []
        centred = found.matrix - found.matrix.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        flat = centred @ axes[:2].T
        low, high = np.percentile(flat, [0.5, 99.5], axis=0)
        flat = np.clip((flat - low) / np.maximum(high - low, 1e-9), 0, 1) * 0.96 + 0.02
        with self.engine.connect() as connection:
            about = {row[0]: row for row in connection.execute(ABOUT)}
        return [[int(i), about[int(i)][1], round(float(x), 4), round(float(y), 4), *about[int(i)][2:]]
                for i, (x, y) in zip(found.drug_ids, flat, strict=True) if int(i) in about]

    def recommend(self, patients: Sequence[Patient], min_coverage: float) -> list[Answer]:
        """The recommender's answers, one a patient."""
        service = self.recommender
        with self._loading:
            return service.recommend_many(patients, min_coverage=min_coverage)

    def warm(self) -> str | None:
        """The run that answers: the recommender's, loaded so that nobody waits for it, or else the embedding's."""
        try:
            return str(self.recommender.trained.meta["run"])
        except NotFound:
            run: str | None = self.health()["embedding_run"]
            return run

    @cached_property
    def recommender(self) -> RecommenderService:
        """The loaded recommender; raises NotFound where none was trained."""
        from recsys.answers.recommend import RecommenderService

        return RecommenderService.open(self.settings, self.run)

    @cached_property
    def _embedder(self) -> Embedder:
        from embed.runs.found import open_embedder

        return open_embedder(self.engine, self.settings)

    @cached_property
    def _molecules(self) -> MoleculeSearch:
        from embed.search.molecules import MoleculeSearch

        return MoleculeSearch(self.engine, self._embedder)
