"""What is known of the medications: their vectors and what those rest on, their interactions, their molecules."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from kb.errors import DataError
from recsys.orders.interactions import DrugInteractions, Interactions

if TYPE_CHECKING:
    from recsys.knowledge.composition import Composition
    from recsys.knowledge.evidence import CodeEvidence


@dataclass(frozen=True)
class Knowledge:
    """Everything of K medications that a recommender may use; stored with each model, so that it needs no database.

    A medication with no vector in the store has ``known`` false: its row of ``vectors`` is zero and the model learns
    one for it.
    """

    medications: tuple[str, ...]
    """Codes, in the order of the vocabulary."""
    names: tuple[str, ...]
    vectors: np.ndarray
    """float32[K, D], unit rows where known."""
    known: np.ndarray
    """bool[K]."""
    rests_on: np.ndarray
    """bool[K, M]: the modalities that each vector rests on, in the order of ``modalities``."""
    interactions: Interactions
    modalities: tuple[str, ...] = ("image", "text", "structure", "property", "graph")
    modality_vectors: np.ndarray | None = None
    """float32[M, K, D]: the vector of each modality alone, zero where absent; None when the store has only fused."""
    smiles: tuple[tuple[str, ...], ...] = field(default=())
    """The molecules of each medication; empty for biologics and unmapped ones."""
    vectors_run: str = "none"
    """The embedding run that the vectors come from, ``random:<seed>``, or ``none``."""
    evidence: CodeEvidence | None = None
    """How related the diagnoses, then the procedures, are to the medications; None where it was not asked for."""
    ingredients: tuple[tuple[str, ...], ...] = field(default=())
    """The keys of each medication's ingredients, those that its orders had where the cohort says so."""
    drug_interactions: DrugInteractions = field(default_factory=DrugInteractions)
    """What sources state of pairs of these ingredients; ``interactions`` is rolled up from it."""
    composition: Composition | None = None
    """The drugs behind ``vectors`` with the run's own fusion; None where the run's weights were not at hand."""

    def __post_init__(self) -> None:
        size = len(self.medications)
        shapes = (len(self.names), len(self.vectors), len(self.known), len(self.rests_on),
                  len(self.interactions.matrix), len(self.smiles) or size, len(self.ingredients) or size)
        if any(length != size for length in shapes):
            raise DataError(f"the parts of the medications' knowledge differ in length: {size} codes, {shapes}")
        if not np.isfinite(self.vectors).all():
            raise DataError("a medication vector holds NaN or infinity", hint="publish the embedding run again")


def no_knowledge(medications: tuple[str, ...], interactions: Interactions, *, width: int = 64,
                 names: tuple[str, ...] | None = None, smiles: tuple[tuple[str, ...], ...] = (),
                 ingredients: tuple[tuple[str, ...], ...] = (),
                 drug_interactions: DrugInteractions | None = None) -> Knowledge:
    """The knowledge of a machine without a store: every medication's vector is to be learned."""
    size = len(medications)
    return Knowledge(medications, names or medications, np.zeros((size, width), np.float32), np.zeros(size, bool),
                     np.zeros((size, 5), bool), interactions, smiles=smiles, ingredients=ingredients,
                     drug_interactions=drug_interactions or DrugInteractions())


def with_random_vectors(knowledge: Knowledge, seed: int) -> Knowledge:
    """The same medications with random unit vectors in place of the store's: the ablation's other arm."""
    vectors = np.random.default_rng(seed).standard_normal(knowledge.vectors.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.random.default_rng(seed).permutation(len(vectors))
    evidence = knowledge.evidence.of_medications(order) if knowledge.evidence is not None else None
    return replace(knowledge, vectors=vectors * knowledge.known[:, None], modality_vectors=None, composition=None,
                   evidence=evidence, vectors_run=f"random:{seed}")


def with_shuffled_medications(knowledge: Knowledge, seed: int) -> Knowledge:
    """The same vectors and evidence, each given to another medication: what an arm without knowledge reads."""
    order = np.random.default_rng(seed).permutation(len(knowledge.medications))
    evidence = knowledge.evidence.of_medications(order) if knowledge.evidence is not None else None
    return replace(knowledge, vectors=knowledge.vectors[order], known=knowledge.known[order],
                   rests_on=knowledge.rests_on[order], modality_vectors=None, composition=None, evidence=evidence,
                   vectors_run=f"shuffled:{seed}:{knowledge.vectors_run}")


def with_modalities(knowledge: Knowledge, kept: tuple[str, ...]) -> Knowledge:
    """The same medications knowing only these modalities; one that has none of them loses its vector.

    The vector becomes the normalised mean of the modality vectors that are left.
    """
    if knowledge.modality_vectors is None:
        raise DataError("the vectors of single modalities are needed to leave one out",
                        hint="publish them with mkmed embed publish")
    keep = np.array([name in kept for name in knowledge.modalities])
    mask = knowledge.rests_on & keep[None, :]
    vectors = mean_vector(knowledge.modality_vectors, mask)
    return replace(knowledge, vectors=vectors, known=knowledge.known & mask.any(1), rests_on=mask, composition=None)


def mean_vector(modality_vectors: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float32[K, D]: the normalised sum over the modalities in ``mask`` bool[K, M] of [M, K, D]; zero where none."""
    total = np.einsum("mkd,km->kd", modality_vectors, mask.astype(np.float32))
    norm = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.maximum(norm, 1e-6) * mask.any(axis=1, keepdims=True)).astype(np.float32)
