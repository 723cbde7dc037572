"""Molecules from outside: first who they are, then what they are like.

A molecule that the knowledge base knows is named (``identical``); so are its salts, charged and stereo forms and
tautomers (``parent``). The rest is compared by what the run foretells from the structure (``embed.search.predicted``).
By a run that foretells nothing it is completed by what RDKit derives from it, and compared like with like: with the
vectors that the run's fusion gives the known drugs from the same kinds of knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from sqlalchemy import Engine

from embed.features import fingerprint
from embed.features import parents as parent_forms
from embed.features.cache import sha256
from embed.features.derive import DERIVED, derive
from embed.features.parents import block_key, formula_key
from embed.features.work import molecule_chunks
from embed.registry import ANCHOR
from embed.runs import store
from embed.runs.embedder import Embedded, Embedder
from embed.search.predicted import BASIS, Predictions
from embed.search.unusual import Reference, is_far
from kb.chemistry import read_smiles
from kb.errors import DataError
from kb.identity.forms import IDENTICAL, PARENT, Forms, forms, tautomer
from kb.query import read as query

CHUNK = 65_536


@dataclass(frozen=True)
class Match:
    """A known drug that a molecule is (``identical``) or is a form of (``parent``)."""

    drug_id: int
    relation: str


class Known:
    """The structures of the knowledge base, by InChIKey and by parent."""

    def __init__(self, engine: Engine, run: Embedder) -> None:
        with engine.connect() as connection:
            drugs = query.drugs(connection)
        self.drugs = drugs
        self.row = {int(drug_id): row for row, drug_id in enumerate(drugs.ids)}
        self.cache = run.cache
        self.by_key = {key: int(i) for key, i in zip(drugs.inchikeys, drugs.ids, strict=True) if key}

    @cached_property
    def _parents(self) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8], list[str]]:
        """(drug ids, first blocks, formulas, SMILES) of all parents."""
        rows = [row for row, text in enumerate(self.drugs.smiles) if text]
        texts = [self.drugs.smiles[row] or "" for row in rows]
        chunks = molecule_chunks("embed.features.parents:parents", {}, lambda indices: [texts[i] for i in indices])
        found = self.cache.open("parent", parent_forms.VERSION, [sha256(text) for text in texts], chunks)
        items = found.all()
        if items is None:
            return np.empty(0, np.int64), np.zeros((0, 14), np.uint8), np.zeros((0, 8), np.uint8), []
        has = found.position >= 0
        at, ids = found.position[has], self.drugs.ids[rows][has]
        text, pointer = items.columns["text.smiles"].tobytes(), items.indptr["text"]
        smiles = [text[pointer[k]:pointer[k + 1]].decode() for k in at]
        blocks, formulas = (np.asarray(items.columns[name][at], np.uint8) for name in ("block", "formula"))
        return ids, blocks, formulas, smiles

    def matches(self, own: Forms) -> list[Match]:
        """The drugs that a molecule is, then those that it shares a parent or a tautomer of it with."""
        exact = self.by_key.get(own.inchikey)
        found = [Match(exact, IDENTICAL)] if exact is not None else []
        ids, blocks, formulas, smiles = self._parents
        near = np.flatnonzero((blocks == block_key(own.block)).all(1)) if own.block else np.empty(0, np.int64)
        same = (formulas == formula_key(own.formula)).all(1)
        same[near] = False
        others = np.flatnonzero(same)
        settled = tautomer(own.smiles) if len(others) else ""
        shifted = [k for k in others if tautomer(smiles[k]) == settled]
        return found + [Match(int(ids[k]), PARENT) for k in [*near, *shifted] if int(ids[k]) != exact]


class Library:
    """The stored vectors of a run by kind, and the vectors that its fusion gives from any subset of kinds."""

    def __init__(self, engine: Engine, run: Embedder) -> None:
        self.engine, self.run = engine, run
        self._columns: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
        self._subsets: dict[tuple[str, ...], tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The drugs that have a vector."""
        return store.read(self.engine, self.run.artefact.run_id).drug_ids

    def column(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """``(z, present)`` of one kind over all drugs."""
        if name not in self._columns:
            z, present = np.zeros((len(self.ids), self.run.width), np.float32), np.zeros(len(self.ids), bool)
            one = store.read(self.engine, self.run.artefact.run_id, name)
            at = np.searchsorted(self.ids, one.drug_ids)
            z[at], present[at] = one.matrix, True
            self._columns[name] = z, present
        return self._columns[name]

    def alike(self, names: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """``(fused, known)``: every drug's vector from what it has of ``names``, and which drugs have any of it.

        Where ``names`` holds the molecule, only drugs with a molecule count: the others are no likes of it.
        """
        if names not in self._subsets:
            known = np.zeros(len(self.ids), bool)
            fused = np.zeros((len(self.ids), self.run.width), np.float32)
            columns = {name: self.column(name) for name in names}
            for start in range(0, len(self.ids), CHUNK):
                part = slice(start, start + CHUNK)
                count = len(self.ids[part])
                z = np.zeros((count, len(self.run.names), self.run.width), np.float32)
                present = np.zeros((count, len(self.run.names)), bool)
                for name, (own, has) in columns.items():
                    place = self.run.names.index(name)
                    z[:, place], present[:, place] = own[part], has[part]
                if ANCHOR in names:
                    present &= present[:, [self.run.names.index(ANCHOR)]]
                fused[part], known[part] = self.run.fuse(z, present), present.any(1)
            self._subsets[names] = fused, known
        return self._subsets[names]

    def nearest(self, vector: NDArray[np.float32], names: tuple[str, ...],
                k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """``(rows, similarity)`` of the ``k`` drugs nearest to a vector that was made of ``names``."""
        fused, known = self.alike(names)
        similarity = np.where(known, fused @ vector, -np.inf)
        k = min(k, int(known.sum()))
        best = np.argpartition(-similarity, k - 1)[:k] if k else np.empty(0, np.int64)
        order = best[np.argsort(-similarity[best], kind="stable")]
        return order, similarity[order].astype(np.float32)


class MoleculeSearch:
    """Questions in molecules, to one run over one knowledge base."""

    def __init__(self, engine: Engine, run: Embedder) -> None:
        self.run, self.known, self.library = run, Known(engine, run), Library(engine, run)
        self.reference = Reference.of(run.artefact)
        self.predictions = Predictions.of(engine, run, self.known.drugs)

    def encode(self, smiles: Sequence[str], skip: Sequence[str] = ()) -> Embedded:
        """The vectors of readable molecules, completed by what RDKit derives and the run can encode."""
        wanted = [name for name in DERIVED if name in self.run.able and name not in skip]
        return self.run.encode(derive(smiles, wanted=wanted), [ANCHOR, *wanted])

    def ask(self, smiles: str, k: int = 10) -> list[dict[str, Any]]:
        """The ``k`` drugs that the molecule is, is a form of, or is most like, in this order.

        Each row has ``drug_id``, ``name``, ``relation``, ``similarity``, ``rests_on``, ``sure`` (the cosine to expect
        between what was foretold and the truth) and ``unusual``: the share of the run's training drugs (per cent) that
        have a nearer training drug than the molecule has. Raises DataError for what is no molecule.
        """
        mol = read_smiles(smiles)
        settled = Chem.MolToSmiles(mol)
        if self.predictions is not None:
            answer = self._ask_predictions(self.predictions, mol, settled, k)
            if answer is not None:
                return answer
        found = self.encode([settled])
        names = tuple(name for name, has in zip(found.names, found.present[0], strict=True) if has)
        matches = {match.drug_id: match.relation for match in self.known.matches(forms(mol))}
        fused, known = self.library.alike(names)
        rows, similarity = self.library.nearest(found.fused[0], names, k + len(matches))
        told = dict(zip(self.library.ids[rows].tolist(), similarity.tolist(), strict=True))
        for drug_id in matches:
            row = int(np.searchsorted(self.library.ids, drug_id))
            inside = row < len(self.library.ids) and self.library.ids[row] == drug_id and known[row]
            told.setdefault(drug_id, float(fused[row] @ found.fused[0]) if inside else float("nan"))
        unusual = self.unusual(settled)
        rank = {IDENTICAL: 0, PARENT: 1}
        order = sorted(told, key=lambda i: (rank.get(matches.get(i, ""), 2), -told[i] if told[i] == told[i] else 0))
        return [{
            "drug_id": i, "name": self.known.drugs.names[self.known.row[i]], "relation": matches.get(i, ""),
            "similarity": told[i] if told[i] == told[i] else None, "rests_on": list(names), "sure": None,
            "unusual": unusual, "far": is_far(unusual),
        } for i in order[:k] if i in self.known.row]

    def _ask_predictions(self, predictions: Predictions, mol: Chem.Mol, settled: str,
                         k: int) -> list[dict[str, Any]] | None:
        """``ask`` by what the structure foretells; None for a molecule that a featuriser cannot read."""
        read, foretold = self.run.foretell([settled])
        if not len(read):
            return None
        matches = {match.drug_id: match.relation for match in self.known.matches(forms(mol))}
        stored = predictions.stored
        _, also, _ = np.intersect1d(stored.drug_ids, np.array(list(matches), np.int64), return_indices=True)
        rows, similarity = predictions.nearest(foretold, k + len(matches), also.tolist())[0]
        told = dict(zip(stored.drug_ids[rows].tolist(), similarity.tolist(), strict=True))
        first = [drug_id for relation in (IDENTICAL, PARENT) for drug_id in matches if matches[drug_id] == relation]
        order = [*first, *(drug_id for drug_id in told if drug_id not in matches)]
        sure, unusual = predictions.sure(foretold), self.unusual(settled)
        return [{
            "drug_id": i, "name": self.known.drugs.names[self.known.row[i]], "relation": matches.get(i, ""),
            "similarity": told.get(i), "rests_on": [BASIS], "sure": sure, "unusual": unusual, "far": is_far(unusual),
        } for i in order[:k] if i in self.known.row]

    def across(self, smiles: str, kind: str, k: int = 10) -> list[dict[str, Any]]:
        """The ``k`` drugs whose ``kind`` (text, graph) fits best what the structure of a molecule foretells of it.

        Raises DataError for what is no molecule, and UsageError for a run that foretells nothing of the kind.
        """
        settled = Chem.MolToSmiles(read_smiles(smiles))
        read, foretold = self.run.foretell([settled])
        if self.predictions is None or not len(read):
            raise DataError("nothing is foretold of this molecule", hint="mkmed embed update stores what is foretold")
        ids, match = self.predictions.across(foretold, kind, k)
        sure = round(float(foretold.agreement[kind][0]), 3)
        return [{"drug_id": i, "name": self.known.drugs.names[self.known.row[i]], "match": score,
                 "rests_on": [f"{kind}, {BASIS}"], "sure": sure}
                for i, score in zip(ids.tolist(), match.tolist(), strict=True) if i in self.known.row]

    def unusual(self, smiles: str) -> float | None:
        """How unusual a readable molecule is, in per cent; None for a run that did not keep what to compare with."""
        bits = self.run.config.molecule.fingerprint_bits or 2048
        _, prints = fingerprint.fingerprints([smiles], bits)
        return self.reference.molecule(fingerprint.packed_bits(prints, bits)[0])
