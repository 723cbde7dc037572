"""What the service answers with, loaded once: the database for reading, the published run, the recommender."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Engine, text

from kb.chemistry import canonical, read_smiles
from kb.errors import NotFound
from kb.pictures import molecule_svg
from kb.query import find, read, tables
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
    SELECT modality, source, state, evidence::text AS evidence, last_error FROM mkmed.availability
    WHERE drug_id = :id ORDER BY modality, source""")
SHAPE = text("SELECT molblock, source FROM mkmed.conformers WHERE drug_id = :id ORDER BY source LIMIT 1")
BUCKETS = text("""
    SELECT image, text, structure, property, graph, count(*) AS drugs FROM mkmed.bucket
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC""")
ABOUT = text("""
    SELECT b.drug_id, b.name, min(left(a.code, 1)), b.modalities
    FROM mkmed.bucket b LEFT JOIN mkmed.atc a ON a.drug_id = b.drug_id GROUP BY b.drug_id, b.name, b.modalities""")
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
            head, sections = read.describe(connection, wanted)
        return {**head, **sections}

    def resolve(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What each name may mean, the best candidates first."""
        with self.engine.connect() as connection:
            return [{"input": name, "candidates": [
                {"drug_id": c.drug_id, "name": c.name, "matched": c.matched, "how": c.how, "rank": c.rank}
                for c in read.find_drugs(connection, name)]} for name in names]

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
            ids = [read.find_drug(connection, name) for name in names]
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
        with self.engine.connect() as connection:
            found = {name: tables.table(connection, name, [drug_id])[1] for name in ("drugs", "texts", "interactions")}
            if not found["drugs"]:
                raise NotFound(f"there is no drug {drug_id}", hint="ids are those of column drug_id")
            cells = connection.execute(CELLS, {"id": drug_id}).mappings().all()
            shape = connection.execute(SHAPE, {"id": drug_id}).first()
        head = found["drugs"][0]
        return {
            **head, "handle": str(head["identity"]).removeprefix("inchikey:"), "availability": [dict(c) for c in cells],
            "texts": [row for row in found["texts"] if not row["is_note"]][:MOST_TEXTS],
            "interactions": found["interactions"][:MOST_PAIRS], "molblock": shape[0] if shape else None,
            "molblock_source": shape[1] if shape else None,
            "picture": molecule_svg(head["smiles"], width=420, height=260) if head["smiles"] else None,
        }

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
        """Every drug with a published vector: id, name, two coordinates from 0 to 1 (PCA), ATC level 1, modalities."""
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
        return [[int(i), about[int(i)][1], round(float(x), 4), round(float(y), 4), about[int(i)][2], about[int(i)][3]]
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
