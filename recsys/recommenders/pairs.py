"""A generalised linear mixed model of (visit, medication) pairs: shared coefficients first, then a Gaussian process.

    logit P(n, k) = b_k + Σ_f γ_f z_f[n, k] + f(n, k)

``b_k`` is the smoothed log-odds of the medication in the training visits. The features ``z`` are of the pair: what was
given before, how many codes the visit has, and how well its codes go with the medication by ``CodeEvidence``. Their
coefficients γ are shared by all medications, so that a medication that nobody was given yet is scored by them too.
``f`` is a Gaussian process over pairs with covariance Kx ⊗ Kd, from one Newton step on the training visits: visits are
alike by their codes (a code by its title where titles are on) and their histories, medications by their vectors.

The process is linear in the visit's codes and history, so what is kept is one coefficient a code and medication, and
no training visit.

A medication that could not be ordered at all training visits (``Histories.available``), or that nobody was given, is
scored by ``recsys.recommenders.unseen`` instead; the visits at which it could be ordered then correct that score, by a
process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kb.errors import DataError
from recsys.cohorts.batches import Histories, Sizes
from recsys.cohorts.cohort import Ragged
from recsys.experiments.config import Config
from recsys.experiments.decode import logit
from recsys.experiments.metrics import average_precision
from recsys.knowledge.evidence import KINDS, CodeEvidence, unit_rows
from recsys.knowledge.table import Knowledge
from recsys.recommenders import unseen
from recsys.recommenders.contract import Log, Recommender
from recsys.recommenders.unseen import Unseen

Floats = NDArray[np.float32]

CHUNK = 1 << 22
"""Pairs whose features are in memory at once."""
POOLED_PAIRS = 4_000_000
"""Pairs that the shared coefficients are fitted on; of more, a sample of visits."""
LANDMARKS = 3_000
"""Visits that span the process; of more, a sample (Nyström)."""
FEW_VISITS = 50
"""Below as many training visits only the aligned evidence is used."""
TITLE_WEIGHTS = (0.0, 1.0, 10.0)
DRUG_WEIGHTS = (0.0, 0.4, 0.8)
DRUG_WIDTHS = (0.2, 0.5)
NOISES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
TITLE_WIDTH = 0.25
RIDGE = 1.0
OWN = np.array([4, 5])
"""The features that say whether the medication was given before."""


@dataclass(frozen=True)
class Process:
    """What the Gaussian process was fitted from, at the n training visits."""

    codes: sparse.csr_matrix
    history: sparse.csr_matrix
    mixed: Any
    """[n, C]: the codes spread over those with like titles."""
    likeness: Floats | None
    scaled: NDArray[np.float64]
    """float64[n, given]: residuals over their standard deviations."""
    weight: NDArray[np.float64]
    """float64[K]: those standard deviations."""
    kernel: NDArray[np.float64]
    """float64[K, K]: of the medications."""


class Pairs(Recommender):
    """Shared pair features and a Gaussian process, both in closed form; settings chosen by validation PRAUC."""

    name = "pairs"
    arrays_only = True
    needs_evidence = True
    scale: Floats

    def __init__(self, sizes: Sizes, knowledge: Knowledge, config: Config) -> None:
        super().__init__(sizes, knowledge, config)
        self.evidence = knowledge.evidence
        self.bias = np.zeros(sizes.medication, np.float32)
        self.gamma = np.zeros(0, np.float32)
        self.centre = np.zeros((0, sizes.medication), np.float32)
        self.by_code = np.zeros((sizes.diagnosis + sizes.procedure, sizes.medication), np.float32)
        self.by_history = np.zeros((2 * sizes.medication + 1, sizes.medication), np.float32)
        self.seen = np.ones(sizes.diagnosis + sizes.procedure, bool)
        self.used: tuple[str, ...] = KINDS[:len(self.evidence.tables)] if self.evidence is not None else ()
        self.chosen: dict[str, float] = {}
        self.unseen: Unseen | None = None

    # -- features -----------------------------------------------------------------------------------------------------

    def _chunks(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        size = max(CHUNK // max(self.sizes.medication, 1), 1)
        yield from (rows[start:start + size] for start in range(0, len(rows), size))

    def features(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        """float32[F, n, K]: the pair features of some visits, not centred."""
        shape = (len(rows), self.sizes.medication)
        recent = visits.recent[rows].toarray()
        counts = (np.log1p(visits.diagnosis.lengths[rows]), np.log1p(visits.procedure.lengths[rows]),
                  np.log1p(recent.sum(1)), visits.past[rows] > 0)
        found = [np.broadcast_to(np.asarray(count, np.float32)[:, None], shape) for count in counts]
        found += [recent, visits.share[rows].toarray()]
        if self.evidence is not None:
            for codes, first in ((visits.diagnosis, 0), (visits.procedure, self.sizes.diagnosis)):
                taken = codes.take(rows)
                for name in self.used:
                    found += strongest_and_total(taken, self.evidence.tables[KINDS.index(name)][first:])
        return np.stack(found).astype(np.float32)

    def inputs(self, visits: Histories, rows: NDArray[np.int64]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """The codes [n, C] and the history [n, 2K + 1] that the process is linear in."""
        codes = sparse.hstack([visits.diagnosis.take(rows).sparse(self.sizes.diagnosis),
                               visits.procedure.take(rows).sparse(self.sizes.procedure)], format="csr")
        before = (visits.past[rows] > 0).astype(np.float32)[:, None]
        history = sparse.hstack([visits.recent[rows], visits.share[rows], sparse.csr_matrix(before)], format="csr")
        return codes, history

    # -- fitting ------------------------------------------------------------------------------------------------------

    def fit(self, train: Histories, validation: Histories, *, log: Log | None = None,
            folder: Path | None = None, resume: bool = False) -> None:
        """Fit γ and the process; a medication that no training visit has takes part in neither."""
        rows, held = np.flatnonzero(train.scored), np.flatnonzero(validation.scored)
        target = train.target(rows).astype(np.float32)
        open_ = np.ones_like(target, bool) if train.available is None else train.available[rows]
        given = (target.sum(0) > 0) & open_.all(0)
        self.seen = np.concatenate([held_by(codes, train.patient_of, size) >= max(self.config.least_patients, 1)
                                    for codes, size in ((train.diagnosis, self.sizes.diagnosis),
                                                        (train.procedure, self.sizes.procedure))])
        if len(rows) < FEW_VISITS:
            self.used = self.used[:1]
        share = (target.sum(0) + target[:, given].sum() / max(target[:, given].size, 1)) / (open_.sum(0) + 1)
        self.bias = logit(share).astype(np.float32)
        self._fit_shared(train, rows, target, given)
        score = np.concatenate([self._shared(train, part) for part in self._chunks(rows)])
        truth = validation.target(held).astype(np.float32)
        offset = np.concatenate([self._shared(validation, part) for part in self._chunks(held)])
        guess = sigmoid(score)
        process = self._fit_process(train, rows, target - guess, guess, given, validation, held, offset, truth, log)
        if not given.all() and len(unseen.learnable(target, given)) >= unseen.LEAST_MEDICATIONS:
            self._fit_unseen(train, rows, target, open_, given, score, process)

    def _fit_shared(self, train: Histories, rows: NDArray[np.int64], target: Floats, given: NDArray[np.bool_]) -> None:
        """γ by a ridge logistic regression over all pairs; ``centre`` makes every feature's mean zero by medication."""
        total: Floats | None = None
        square: np.ndarray | None = None
        for part in self._chunks(rows):
            z = self.features(train, part)
            total = z.sum(1) if total is None else total + z.sum(1)
            now = np.asarray((z.astype(np.float64) ** 2).sum((1, 2)))
            square = now if square is None else square + now
        assert total is not None and square is not None  # a split has training visits
        mean = total / len(rows)
        spread = square / (len(rows) * mean.shape[1]) - mean.astype(np.float64).mean(1) ** 2
        self.scale = np.asarray(np.sqrt(np.maximum(spread, 1e-8)), np.float32)
        self.centre = np.asarray(mean, np.float32)
        most = max(POOLED_PAIRS // max(int(given.sum()), 1), 1)
        some = rows if len(rows) <= most else np.sort(np.random.default_rng(self.config.seed).choice(rows, most, False))
        z = np.concatenate([self._centred(train, part)[:, :, given] for part in self._chunks(some)], axis=1)
        truth = target[np.searchsorted(rows, some)][:, given]
        self.gamma = ridge_logistic(z.reshape(len(z), -1), np.broadcast_to(self.bias[given], truth.shape).ravel(),
                                    truth.ravel(), RIDGE)

    def _centred(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        return (self.features(visits, rows) - self.centre[:, None, :]) / self.scale[:, None, None]

    def _shared(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        """float32[n, K]: b + γ·z."""
        return self.bias + np.einsum("f,fnk->nk", self.gamma, self._centred(visits, rows))

    def _fit_process(self, train: Histories, rows: NDArray[np.int64], residual: Floats, guess: Floats,
                     given: NDArray[np.bool_], validation: Histories, held: NDArray[np.int64], offset: Floats,
                     truth: Floats, log: Log | None) -> Process:
        """Choose the process's settings by the PRAUC of the given medications on the validation visits, and fit it."""
        weight = np.sqrt((guess * (1 - guess)).mean(0)).astype(np.float64)
        scaled = residual[:, given].astype(np.float64) / weight[given]
        codes, history = self.inputs(train, rows)
        held_codes, held_history = self.inputs(validation, held)
        likeness = self._title_kernel()
        vectors = self._centred_vectors(given)
        best: tuple[float, dict[str, float], np.ndarray] | None = None
        for tau in TITLE_WEIGHTS if likeness is not None else (0.0,):
            mixed = self._mixed(codes, likeness, tau)
            spectrum, basis, size = eigen(mixed, codes, history, self.config.seed)
            across = held_codes @ (mixed.T @ basis) + held_history @ (history.T @ basis)
            across, projected = np.asarray(across) / size, basis.T @ scaled
            for rho, width in drug_settings(vectors is not None):
                kernel = drug_kernel(vectors, rho, width, len(given))
                inner = weight[given, None] * kernel[np.ix_(given, given)] * weight[given]
                unit_trace = np.trace(inner) / max(int(given.sum()), 1)
                values, rotation = np.linalg.eigh(inner / unit_trace)
                outward = rotation.T @ (weight[given, None] * kernel[given]) / unit_trace
                turned = projected @ rotation
                for noise in NOISES:
                    inside = (turned / (np.outer(np.maximum(spectrum, 0), np.maximum(values, 0)) + noise)) @ outward
                    quality = float(average_precision((offset + across @ inside)[:, given],
                                                              truth[:, given]).mean())
                    if best is None or quality > best[0]:
                        chosen = {"titles": tau, "drugs": rho, "drug_width": width, "noise": noise}
                        best = quality, chosen, basis @ inside / size
            if log is not None and best is not None:
                log({"titles": tau, "prauc": best[0]})
        assert best is not None  # there is always one setting
        quality, self.chosen, alpha = best
        self.chosen["validation_prauc"] = quality
        self.by_code = self._coefficients(codes, alpha, likeness)
        self.by_history = np.asarray(history.T @ alpha, np.float32)
        kernel = drug_kernel(vectors, self.chosen["drugs"], self.chosen["drug_width"], len(given))
        return Process(codes, history, self._mixed(codes, likeness, self.chosen["titles"]), likeness, scaled, weight,
                       kernel)

    def _coefficients(self, codes: sparse.csr_matrix, alpha: np.ndarray, likeness: Floats | None) -> Floats:
        """float32[C, m]: what a code adds, from what each training visit adds ``alpha`` [n, m]."""
        own, tau = np.asarray(codes.T @ alpha), self.chosen["titles"]
        return np.asarray(own if likeness is None else (own + tau * likeness @ own) / (1 + tau), np.float32)

    @staticmethod
    def _mixed(codes: sparse.csr_matrix, likeness: Floats | None, tau: float) -> Any:
        """[n, C]: the visits' codes, each spread over the codes with like titles."""
        return codes if likeness is None else (codes.toarray() + tau * (codes @ likeness)) / (1 + tau)

    # -- medications that could not be ordered ------------------------------------------------------------------------

    def _fit_unseen(self, train: Histories, rows: NDArray[np.int64], target: Floats, open_: NDArray[np.bool_],
                    given: NDArray[np.bool_], score: Floats, process: Process) -> None:
        """Learn from the given medications, visits by patients left out, what those that are not given will score."""
        most = max(POOLED_PAIRS // max(len(given), 1), 1)
        fold = np.random.default_rng([self.config.seed, 5]).permutation(train.patients)[train.patient_of[rows]]
        some = np.flatnonzero(fold < np.sort(fold)[min(most, len(fold) - 1)] + 1)
        left_out = score[some] + self._left_out(process, some, fold[some] % unseen.FOLDS, given)
        neighbours = unseen.neighbour_weights(self._centred_vectors(given), given)
        every = np.arange(len(given))
        features = self._unseen_features(train, rows[some], left_out, given, neighbours, every)
        delta, centre, scale, quality = unseen.fit_shared(features, target[some], unseen.learnable(target[some], given),
                                                          self.config.seed)
        columns = np.flatnonzero(~given)
        alike = sigmoid(self.bias[given] @ neighbours[np.ix_(given, columns)])
        had, could = (target * open_)[:, columns].sum(0), open_[:, columns].sum(0)
        share = (had + unseen.PRIOR_VISITS * alike) / (could + unseen.PRIOR_VISITS)
        self.unseen = Unseen(columns, neighbours[:, columns], given, delta, centre[:, columns], scale,
                             logit(share).astype(np.float32))
        self.chosen["unseen_auroc"] = quality
        self.by_code[:, columns], self.by_history[:, columns] = 0.0, 0.0
        whole = self._scores(train, rows)
        for column in columns[could > 0]:
            visits = np.flatnonzero(open_[:, column])
            self._correct(int(column), visits, target[visits, column], sigmoid(whole[visits, column]), process)

    def _left_out(self, process: Process, some: NDArray[np.int64], fold: NDArray[np.int64],
                  given: NDArray[np.bool_]) -> Floats:
        """float32[n, K]: what the process adds at some training visits when it is fitted without their patients."""
        out = np.zeros((len(some), len(given)), np.float32)
        weight = process.weight[given]
        inner = weight[:, None] * process.kernel[np.ix_(given, given)] * weight
        unit_trace = np.trace(inner) / len(weight)
        values, rotation = np.linalg.eigh(inner / unit_trace)
        outward = rotation.T @ (weight[:, None] * process.kernel[given]) / unit_trace
        for number in np.unique(fold):
            held, kept = some[fold == number], some[fold != number]
            spectrum, basis, size = eigen(process.mixed[kept], process.codes[kept], process.history[kept],
                                          self.config.seed)
            inside = basis.T @ process.scaled[kept] @ rotation
            inside /= np.outer(np.maximum(spectrum, 0), np.maximum(values, 0)) + self.chosen["noise"]
            across = process.codes[held] @ (process.mixed[kept].T @ basis)
            across = np.asarray(across + process.history[held] @ (process.history[kept].T @ basis)) / size
            out[fold == number] = across @ inside @ outward
        return out

    def _unseen_features(self, visits: Histories, rows: NDArray[np.int64], score: Floats, given: NDArray[np.bool_],
                         neighbours: Floats, columns: NDArray[np.int64]) -> Floats:
        """float32[F, n, U]: ``unseen.pair_features`` of some visits and medications, from the given ones' scores."""
        diagnosis, procedure = visits.diagnosis.take(rows), visits.procedure.take(rows)
        counts = (np.log1p(diagnosis.lengths), np.log1p(procedure.lengths), np.log1p(visits.earlier.take(rows).lengths),
                  visits.past[rows] > 0)
        evidence = [] if self.evidence is None else [
            (codes, self.evidence.tables[KINDS.index(name)][first:first + size][:, columns])
            for codes, first, size in ((diagnosis, 0, self.sizes.diagnosis),
                                       (procedure, self.sizes.diagnosis, self.sizes.procedure))
            for name in self.used]
        return unseen.pair_features(counts, score, given, neighbours, evidence)

    def _correct(self, column: int, visits: NDArray[np.int64], had: Floats, guess: Floats, process: Process) -> None:
        """Add to one medication's coefficients what the visits at which it could be ordered say against ``guess``."""
        weight = max(float((guess * (1 - guess)).mean()), 1e-4)
        mixed, codes, history = process.mixed[visits], process.codes[visits], process.history[visits]
        spectrum, basis, size = eigen(mixed, codes, history, self.config.seed)
        noise = self.chosen["noise"] * max((unseen.SURE / max(float(had.sum()), 1.0))**2, 1.0)
        alpha = basis @ ((basis.T @ (had - guess)) / (np.maximum(spectrum, 0) + noise)) / (weight * size)
        self.by_code[:, [column]] += self._coefficients(codes, alpha[:, None], process.likeness)
        self.by_history[:, column] += np.asarray(history.T @ alpha, np.float32)

    def _scores(self, visits: Histories, rows: NDArray[np.int64]) -> Floats:
        """float32[n, K]: the log-odds of some visits."""
        codes, history = self.inputs(visits, rows)
        process = np.asarray(codes @ self.by_code + history @ self.by_history)
        score: Floats = self._shared(visits, rows) + process
        if self.unseen is not None:
            columns = self.unseen.columns
            features = self._unseen_features(visits, rows, score, self.unseen.sources, self.unseen.neighbours, columns)
            own = np.stack([visits.recent[rows][:, columns].toarray(), visits.share[rows][:, columns].toarray()])
            own *= (self.gamma[OWN] / self.scale[OWN])[:, None, None]
            score[:, columns] = self.unseen.scores(features) + own.sum(0) + process[:, columns]
        return score

    def _title_kernel(self) -> Floats | None:
        """[C, C]: exp((cos − 1)/width) of the codes' titles; None where titles are off."""
        if self.evidence is None or self.config.titles == "off":
            return None
        titles = self.evidence.titles
        titled = np.linalg.norm(titles, axis=1) > 0
        likeness: Floats = np.exp((titles @ titles.T - 1) / TITLE_WIDTH) * np.outer(titled, titled)
        np.fill_diagonal(likeness, 1.0)
        return likeness

    def _centred_vectors(self, given: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """The medications' vectors about the mean of those given, to length 1; None where none is known."""
        known = self.knowledge.known
        if not (known & given).any():
            return None
        vectors = self.knowledge.vectors.astype(np.float64)
        centred = np.where(known[:, None], vectors - vectors[known & given].mean(0), 0.0)
        return unit_rows(centred).astype(np.float64)

    def forget_unseen_codes(self, vocabularies: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Keep the diagnoses and procedures that enough training patients have, in the vocabularies and all tables."""
        seen, first = self.seen, self.sizes.diagnosis
        kept = {"diagnosis": np.flatnonzero(seen[:first]), "procedure": np.flatnonzero(seen[first:])}
        self.by_code = self.by_code[seen]
        if self.evidence is not None:
            self.evidence = replace(self.evidence, tables=self.evidence.tables[:, seen], codes=(),
                                    titles=self.evidence.titles[seen])
        self.seen = np.ones(int(seen.sum()), bool)
        self.sizes = self.sizes._replace(**{kind: len(rows) for kind, rows in kept.items()})
        return {**vocabularies, **{kind: tuple(vocabularies[kind][i] for i in rows) for kind, rows in kept.items()}}

    # -- answers ------------------------------------------------------------------------------------------------------

    def predict_proba(self, visits: Histories) -> np.ndarray:
        """float32[N, K]."""
        out = np.empty((visits.visits, self.sizes.medication), np.float32)
        for rows in self._chunks(np.arange(visits.visits)):
            out[rows] = sigmoid(self._scores(visits, rows))
        return out

    def parts(self, visits: Histories, row: int) -> dict[str, Floats]:
        """float32[K] by kind of evidence: what each adds to the log-odds at one visit; with the base rate, all of them.

        Zero for medications of ``unseen``, which are scored otherwise.
        """
        rows = np.array([row])
        added = self.gamma[:, None] * self._centred(visits, rows)[:, 0]
        codes, history = self.inputs(visits, rows)
        kinds = ["how many codes"] * 4 + ["given before"] * 2
        kinds += [f"evidence: {name}" for _ in ("diagnosis", "procedure") for name in self.used for _ in range(2)]
        found = {kind: added[[own == kind for own in kinds]].sum(0) for kind in dict.fromkeys(kinds)}
        found["patients with like codes"] = np.asarray(codes @ self.by_code)[0]
        found["patients with like histories"] = np.asarray(history @ self.by_history)[0]
        if self.unseen is not None:
            found = {kind: np.where(np.isin(np.arange(len(self.bias)), self.unseen.columns), 0, values)
                     for kind, values in found.items()}
        return found

    def tensors(self) -> dict[str, np.ndarray]:
        """Coefficients, and the evidence that they stand on, in half precision."""
        arrays = {"bias": self.bias, "gamma": self.gamma, "centre": self.centre, "scale": self.scale,
                  "by_code": self.by_code, "by_history": self.by_history}
        if self.evidence is not None:
            arrays["evidence"] = self.evidence.tables.astype(np.float16)
        if self.unseen is not None:
            arrays |= {f"unseen.{name}": values for name, values in self.unseen.arrays().items()}
        return {name: np.array(values) for name, values in arrays.items()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take them back."""
        arrays = dict(tensors)
        self.bias, self.gamma, self.centre, self.scale, self.by_code, self.by_history = (
            arrays[name] for name in ("bias", "gamma", "centre", "scale", "by_code", "by_history"))
        if "evidence" in arrays:
            tables = arrays["evidence"].astype(np.float32)
            self.evidence = CodeEvidence((), tables, np.zeros((tables.shape[1], 0), np.float32))
        parts = {name.removeprefix("unseen."): values for name, values in arrays.items() if name.startswith("unseen.")}
        self.unseen = Unseen(**parts) if parts else None
        kinds = (len(self.gamma) - 6) // 4
        self.used = KINDS[:kinds]

    def extras(self) -> dict[str, Any]:
        """What the validation patients chose, and the shared coefficients by name."""
        names = ["diagnoses", "procedures", "earlier medications", "had a visit", "given before", "share of visits"]
        names += [f"{name} {how} ({kind})" for kind in ("diagnosis", "procedure") for name in self.used
                  for how in ("strongest", "total")]
        return {**self.chosen, "coefficients": dict(zip(names, map(float, self.gamma), strict=True))}


def held_by(codes: Ragged, patient_of: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """int64[size]: how many patients have each code."""
    pairs = np.unique(patient_of[codes.rows()] * max(size, 1) + codes.values)
    return np.bincount(pairs % max(size, 1), minlength=size)


def strongest_and_total(codes: Ragged, table: Floats) -> tuple[Floats, Floats]:
    """[n, K] each: the largest entry over a visit's codes, and log(1 + the sum of the positive ones); 0 without codes.

    ``table`` float32[C, K].
    """
    strongest = np.zeros((len(codes), table.shape[1]), np.float32)
    filled = np.flatnonzero(codes.lengths)
    if len(filled):
        entries = table[codes.values]
        strongest[filled] = np.maximum.reduceat(entries, codes.indptr[:-1][filled], axis=0)
    total = codes.sparse(len(table)) @ np.maximum(table, 0)
    return strongest, np.log1p(total)


def drug_settings(known: bool) -> list[tuple[float, float]]:
    """The (weight, width) pairs tried for the medications' kernel."""
    return [(0.0, 1.0)] + [(rho, h) for rho, h in product(DRUG_WEIGHTS[1:], DRUG_WIDTHS) if known]


def drug_kernel(vectors: NDArray[np.float64] | None, weight: float, width: float, size: int) -> NDArray[np.float64]:
    """[K, K]: (1 − weight)·identity + weight·exp((cos − 1)/width); one without a vector is like itself only."""
    if vectors is None or weight == 0:
        return np.eye(size)
    known = np.linalg.norm(vectors, axis=1) > 0
    alike = np.where(np.outer(known, known), np.exp((vectors @ vectors.T - 1) / width), 0.0)
    np.fill_diagonal(alike, 1.0)
    return (1 - weight) * np.eye(size) + weight * alike


def eigen(mixed: Any, codes: sparse.csr_matrix, history: sparse.csr_matrix,
          seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Eigenvalues [m], eigenvectors [n, m] of the visits' kernel over its mean diagonal, and that mean.

    The kernel is ``mixed``·``codes``ᵀ + ``history``·``history``ᵀ. Of more than ``LANDMARKS`` visits a random sample
    spans it (Nyström; Williams and Seeger 2001).
    """
    count = codes.shape[0]
    diagonal = np.asarray(codes.multiply(mixed).sum(1)).ravel() + np.asarray(history.multiply(history).sum(1)).ravel()
    size = float(diagonal.mean())
    some = (np.arange(count) if count <= LANDMARKS
            else np.sort(np.random.default_rng(seed).choice(count, LANDMARKS, False)))
    kernel = np.asarray((mixed @ codes[some].T.toarray()), np.float64)
    kernel = (kernel + (history @ history[some].T).toarray()) / size
    if count <= LANDMARKS:
        values, vectors = np.linalg.eigh((kernel + kernel.T) / 2)
        return values, vectors, size
    inner, turn = np.linalg.eigh(kernel[some])
    kept = inner > 1e-6 * inner[-1]
    spanned = kernel @ (turn[:, kept] / np.sqrt(inner[kept]))
    values, vectors = np.linalg.eigh(spanned.T @ spanned)
    kept = values > 1e-6 * values[-1]
    return values[kept], spanned @ (vectors[:, kept] / np.sqrt(values[kept])), size


def ridge_logistic(z: Floats, offset: Floats, target: Floats, ridge: float, *, steps: int = 25) -> Floats:
    """float32[F]: γ that minimises Σ log loss(offset + γ·z) + ridge/2·‖γ‖², by Newton; ``z`` is [F, pairs].

    Raises DataError when a feature is not finite.
    """
    if not np.isfinite(z).all():
        raise DataError("a pair feature is not finite", hint="publish the embedding run again")
    gamma = np.zeros(len(z))
    for _ in range(steps):
        guess = sigmoid(offset + gamma.astype(np.float32) @ z)
        gradient = z @ (target - guess) - ridge * gamma
        hessian = (z * (guess * (1 - guess))) @ z.T + ridge * np.eye(len(z))
        step = np.linalg.solve(hessian, gradient)
        gamma += step
        if np.abs(step).max() < 1e-5:
            break
    return gamma.astype(np.float32)


def sigmoid(score: np.ndarray) -> Floats:
    """1/(1 + exp(−score)), float32."""
    return (1 / (1 + np.exp(-np.clip(score, -30, 30)))).astype(np.float32)
