"""What the service answers with, loaded once: the database for reading, the published run, the recommender."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, text

from kb.chemistry import canonical, read_smiles
from kb.errors import NotFound
from kb.query import find, read, show, tables
from kb.settings import Settings

if TYPE_CHECKING:
    from embed.runs.embedder import Embedder
    from embed.search.molecules import MoleculeSearch
    from recsys.answers.patient import Patient
    from recsys.answers.recommend import Answer, RecommenderService

AMONG = text("""
    SELECT drug_a, drug_b, name_a, name_b, severity, provider, description, licence_id FROM mkmed.interactions
    WHERE drug_a = ANY (:ids) AND drug_b = ANY (:ids) ORDER BY drug_a, drug_b, provider""")


@dataclass
class Answers:
    """Every answer of the service as a plain value."""

    engine: Engine
    settings: Settings
    run: str = ""
    """The recommender's run; the latest one by default."""
    _loading: threading.Lock = field(default_factory=threading.Lock)

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
            head, sections = show.describe(connection, wanted)
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

    def recommend(self, patients: Sequence[Patient], min_coverage: float) -> list[Answer]:
        """The recommender's answers, one a patient."""
        service = self.recommender
        with self._loading:
            return service.recommend_many(patients, min_coverage=min_coverage)

    def warm(self) -> None:
        """Load the recommender where there is one, so that the first patient need not wait for it."""
        try:
            _ = self.recommender
        except NotFound:
            return

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
