"""The knowledge base as an object: what it knows, as data frames; only ``encode`` and vectors of texts need torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Engine

from kb.db.engine import open_engine
from kb.errors import Ambiguous, MkmedError, NotFound, UsageError
from kb.query import find, read, tables
from kb.query.drug import find_drug, find_drugs
from kb.settings import Settings
from mkmed.frames import Frame, Vectors, frame
from mkmed.places import settings_of

if TYPE_CHECKING:
    from embed.runs.embedder import Embedder
    from embed.search.molecules import MoleculeSearch
    from embed.search.texts import TextSearch

Wanted = str | int | Sequence[str | int] | None
"""Drugs: a name, synonym, InChIKey, ``namespace:value`` or ``drug_id``, or several; None is all of them."""


class KnowledgeBase:
    """A connection to a knowledge base and its published vectors. Every answer is a copy; nothing is written."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings

    @classmethod
    def open(cls, url: str | None = None, home: str | Path | None = None) -> KnowledgeBase:
        """See ``mkmed.open``."""
        settings = settings_of(url, home)
        return cls(open_engine(settings), settings)

    def close(self) -> None:
        """Give the connections back; an embedded server stays for who else uses it."""
        self.engine.dispose()

    def __enter__(self) -> KnowledgeBase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mkmed knowledge base of {self._count():,} drugs at {self._place()}>"

    def _count(self) -> int:
        with self.engine.connect() as connection:
            return tables.count_drugs(connection)

    def _place(self) -> str:
        from kb.db.address import bare, parse_url

        url = self.settings.database_url
        return str(self.settings.home) if url is None else bare(parse_url(url.get_secret_value()))

    def resolve(self, wanted: str | Sequence[str]) -> Frame:
        """What each name means: ``input``, ``drug_id``, ``drug``, ``how`` and ``candidates``, in the order asked.

        Where nothing or several things are meant, ``drug_id`` is missing, ``how`` says why, and ``candidates`` has the
        names that were found.
        """
        rows = []
        with self.engine.connect() as connection:
            for text in [wanted] if isinstance(wanted, str) else wanted:
                found = find_drugs(connection, str(text))
                names = [candidate.name for candidate in found]
                row: dict[str, Any] = {"input": text, "drug_id": None, "drug": None, "how": "", "candidates": names}
                try:
                    drug_id = find_drug(connection, str(text))
                except Ambiguous as error:
                    row["how"] = "ambiguous"
                    row["candidates"] = [one["name"] for one in error.candidates]
                except MkmedError as error:
                    row["how"] = error.message
                else:
                    by_id = {candidate.drug_id: candidate for candidate in found}
                    chosen = by_id.get(drug_id)
                    name = chosen.name if chosen else read.drugs(connection, drug_ids=np.array([drug_id])).names[0]
                    row |= {"drug_id": drug_id, "drug": name, "how": chosen.how if chosen else "brand or ion",
                            "candidates": names or [name]}
                rows.append(row)
        table = frame(rows, ("input", "drug_id", "drug", "how", "candidates"))
        table["drug_id"] = table["drug_id"].astype("Int64")
        return table

    def _ids(self, wanted: Wanted) -> list[int] | None:
        """The ids of the wanted drugs; raises NotFound or Ambiguous, which name the one that is not known."""
        if wanted is None:
            return None
        if isinstance(wanted, str | int | np.integer):
            wanted = [wanted]
        with self.engine.connect() as connection:
            numbers = [int(one) for one in wanted if isinstance(one, int | np.integer)]
            known = set(read.drugs(connection, drug_ids=np.array(numbers, np.int64)).ids.tolist()) if numbers else set()
            if missing := [number for number in numbers if number not in known]:
                raise NotFound(f"there is no drug {missing[0]}", hint="ids are those of column drug_id")
            return list(dict.fromkeys(int(one) if isinstance(one, int | np.integer) else
                                      find_drug(connection, one) for one in wanted))

    def _table(self, name: str, wanted: Wanted, **options: Any) -> Frame:
        ids = self._ids(wanted)
        with self.engine.connect() as connection:
            columns, rows = tables.table(connection, name, ids, **options)
        return frame(rows, columns)

    def drugs(self, wanted: Wanted = None) -> Frame:
        """One row a drug: names, kind, InChIKey, SMILES, formula, identifiers, ATC codes, sources, licences."""
        return self._table("drugs", wanted)

    def texts(self, wanted: Wanted = None, *, notes: bool = False) -> Frame:
        """One row a description, with who wrote it and under which licence; indexing notes only when asked for."""
        return self._table("texts", wanted, where=None if notes else "NOT is_note")

    def properties(self, wanted: Wanted = None) -> Frame:
        """One row a number: ``property``, ``value``, ``unit``, whether it was fetched or computed, and from where."""
        return self._table("properties", wanted)

    def interactions(self, wanted: Wanted = None) -> Frame:
        """One row a statement about a pair of drugs; severity in the provider's words."""
        return self._table("interactions", wanted)

    def triples(self, wanted: Wanted = None, *, relation: str | None = None) -> Frame:
        """The statements of the knowledge graph that touch the wanted drugs (all of them without any).

        ``relation`` keeps one relation, by its full name.
        """
        ids = self._ids(wanted)
        with self.engine.connect() as connection:
            columns, rows = tables.triples_table(connection, ids, relation)
        return frame(rows, columns)

    def vectors(self, wanted: Wanted = None, modality: str = "fused") -> Vectors:
        """The published vectors of the wanted drugs, in the order asked, of all drugs by id.

        ``modality`` is ``fused``, ``molecule`` or one of the five. Raises NotFound for a drug without such a vector.
        """
        from embed.runs import store

        ids, found = self._ids(wanted), store.read_published(self.engine, modality)
        place = {int(drug_id): row for row, drug_id in enumerate(found.drug_ids)}
        if missing := [drug_id for drug_id in ids or () if drug_id not in place]:
            raise NotFound(f"drug {missing[0]} has no {modality} vector in the published run",
                           hint="mkmed embed update gives new drugs their vectors")
        rows = list(range(len(found.drug_ids))) if ids is None else [place[drug_id] for drug_id in ids]
        chosen = found.drug_ids[rows]
        with self.engine.connect() as connection:
            drugs = read.drugs(connection, drug_ids=chosen)
        name = dict(zip(drugs.ids.tolist(), drugs.names, strict=True))
        return Vectors(chosen, [name.get(int(i), "") for i in chosen], found.matrix[rows], str(found.run_id), modality)

    def neighbours(self, wanted: Wanted, k: int = 10, *, modality: str = "fused", to: str | None = None,
                   atc: str | None = None, has: Sequence[str] | None = None) -> Frame:
        """The ``k`` drugs most like each of the wanted, nearest first, with what each answer rests on.

        Columns: ``of``, ``drug_id``, ``name``, ``similarity`` (cosine), ``rests_on``, ``atc_codes``. ``to`` searches
        among another modality's vectors; ``atc`` and ``has`` keep drugs of a class and with all these modalities.
        """
        from embed.search.sql import neighbours

        if wanted is None:
            raise UsageError("neighbours of which drugs?", hint='kb.neighbours(["metformin"])')
        asked: Sequence[str | int] = [wanted] if isinstance(wanted, str | int | np.integer) else wanted
        rows: list[dict[str, Any]] = []
        for one in asked:
            with self.engine.connect() as connection:
                identity = read.drugs(connection, drug_ids=np.array(self._ids(one))).identities[0]
            name = identity.removeprefix("inchikey:")
            rows += [{"of": one, **row} for row in neighbours(self.engine, name, k, modality=modality, to=to, atc=atc,
                                                              has=has)]
        return frame(rows, ("of", "drug_id", "name", "similarity", "rests_on", "atc_codes"))

    def search(self, text: str, k: int = 20, *, vectors: bool = False) -> Frame:
        """The ``k`` drugs that answer a text best.

        Words of names and texts, with what was found between « and »; with ``vectors``, words and the published run's
        vectors of sentences and texts as one ranking, which loads the run's models.
        """
        if vectors:
            rows = self._texts.ask(text, k)
            return frame(rows, ("drug_id", "name", "relation", "score", "sentence", "words", "aligned", "unusual"))
        with self.engine.connect() as connection:
            return frame(find.search_text(connection, text, k), find.TEXT_COLUMNS)

    def similar(self, smiles: str, k: int = 10, *, at_least: float = 0.0) -> Frame:
        """The drugs that a molecule is or is a form of (``relation``: identical, parent), then those most like it.

        ``parent`` are its salts, hydrates, charged and stereo forms and tautomers; likeness is the Tanimoto similarity
        of Morgan bits (radius 2), at least ``at_least`` for those without a relation.
        """
        return frame(find.similar(self.engine, smiles, k, at_least=at_least), find.SIMILAR_COLUMNS)

    def substructure(self, smarts: str, k: int | None = None) -> Frame:
        """The drugs whose structure has a part that matches the SMARTS, with the atoms of the first match."""
        return frame(find.substructure(self.engine, smarts, k), find.PART_COLUMNS)

    def encode(self, *, smiles: Sequence[str] | None = None, texts: Sequence[str] | None = None,
               molecules: Sequence[Any] | None = None) -> Vectors:
        """The published run's vectors of molecules or texts from outside; loads the run's models.

        ``smiles`` are completed by what RDKit derives from them (picture, conformer, properties); ``molecules`` are
        RDKit's; ``texts`` go through the text tower alone. Raises DataError for what is no molecule or an empty text.
        """
        given = [one for one in (smiles, texts, molecules) if one is not None]
        if len(given) != 1:
            raise UsageError("give smiles, texts or molecules", hint='kb.encode(smiles=["CCO"])')
        run = str(self._embedder.artefact.run_id)
        if texts is not None:
            asked = list(texts)
            return Vectors(np.full(len(asked), -1), asked, self._embedder.texts(asked), run, "text")
        from kb.chemistry import check_molecule, read_smiles, standard_forms

        read_ = [read_smiles(one) for one in smiles or ()] + [check_molecule(one) for one in molecules or ()]
        settled = [standard_forms(molecule) for molecule in read_]
        written = list(smiles) if smiles is not None else [one.smiles for one in settled]
        found = self._molecules.encode([one.smiles for one in settled])
        known = self._molecules.known.by_key
        ids = np.array([known.get(one.inchikey, -1) for one in settled], np.int64)
        return Vectors(ids, written, found.fused, run, "fused")

    @cached_property
    def _embedder(self) -> Embedder:
        from embed.runs.found import open_embedder

        return open_embedder(self.engine, self.settings)

    @cached_property
    def _texts(self) -> TextSearch:
        from embed.runs.found import open_text_embedder
        from embed.search.texts import TextSearch

        return TextSearch(self.engine, open_text_embedder(self.engine, self.settings))

    @cached_property
    def _molecules(self) -> MoleculeSearch:
        from embed.search.molecules import MoleculeSearch

        return MoleculeSearch(self.engine, self._embedder)

    def sql(self, query: str, values: Mapping[str, Any] | None = None) -> Frame:
        """The answer of a query, in a session that does not write; ``values`` fill ``%(name)s``.

        The views and functions to ask are on the page "SQL". Raises DatabaseError with PostgreSQL's own words.
        """
        columns, rows = tables.ask(self.engine, query, values)
        return frame(rows, columns)

    def sources(self) -> Frame:
        """The sources that have written something, with licence, records, cells and the time of the last run."""
        from kb.query.read import sources

        with self.engine.connect() as connection:
            return Frame(sources(connection))
