"""How related every clinical code is to every medication, by what the code's title says and what is known of the drugs.

Four kinds of evidence, each a table S[c, k]:

``aligned``  the cosine between the title's vector in the aligned space (the run's text tower) and the drug's fused one;
``text``     the largest cosine between the title and the drug's descriptions, both by the frozen sentence encoder, and
             the cosine between the letters of the title and of all descriptions (TF-IDF of 4- and 5-grams), alike;
``treats``   the largest cosine between the title and the names of the diseases that the drug is given for, by the
             graph's edges or by ``mkmed.indications``;
``stated``   whether a statement of ``mkmed.indications`` gives the drug for the code, or for one above it, by ICD-10.

A medication of several drugs has their mean. The first three tables are centred by medication, then by code, and
divided by the code's standard deviation, so that neither popular words nor well-described drugs count for more. A
statement counts as ``STATED`` of them in the mean, and the less the more medications are stated for the code: its
share is divided by the square root of their number. A code without a title and a medication without a drug have zeros.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kb.errors import DataError
from recsys.knowledge.codes import code_lineage, title
from recsys.knowledge.indications import Indications, Statement, nearest_diseases

if TYPE_CHECKING:
    from sqlalchemy import Connection

KINDS = ("aligned", "text", "treats", "stated")
STATED = 4.0
Floats = NDArray[np.float32]


Encode = Callable[[Sequence[str]], Floats]
"""The frozen sentence encoder: n texts to float32[n, F]."""
Align = Callable[[Floats], Floats]
"""The run's text tower: float32[n, F] to float32[n, D] in the aligned space."""


@dataclass(frozen=True)
class CodeEvidence:
    """Evidence for C codes and K medications."""

    codes: tuple[str, ...]
    tables: Floats
    """float32[kinds, C, K], in the order of ``KINDS``."""
    titles: Floats
    """float32[C, F]: unit vectors of the titles, zero where a code has none."""
    aligned: Floats | None = None
    """float32[C, D]: the titles' vectors in the aligned space, zero where a code has none; of a run's text tower."""
    indications: Indications | None = None
    """Which codes' titles are near a disease that a medication treats; None where that was not asked for."""

    def with_vectors(self, vectors: Floats, kinds: Collection[str]) -> CodeEvidence:
        """The evidence with medications of other vectors [K, D]; of the ``KINDS`` not named nothing is left.

        Raises DataError where the titles' aligned vectors are not at hand.
        """
        if self.aligned is None:
            raise DataError("the titles have no vectors in the aligned space", hint="leave titles=on")
        titled, known = (np.linalg.norm(part, axis=1) > 0 for part in (self.aligned, vectors))
        fresh = standardised_table((self.aligned @ unit_rows(vectors).T).astype(np.float32), titled, known)
        tables = [fresh, *self.tables[1:]]
        kept = np.array([kind in kinds for kind in KINDS[:len(tables)]], np.float32)[:, None, None]
        return replace(self, tables=np.stack(tables) * kept, indications=None)

    def titles_alone(self) -> CodeEvidence:
        """The titles without what they say of drugs."""
        return replace(self, tables=self.tables[:0], indications=None)

    def of_medications(self, order: NDArray[np.int64]) -> CodeEvidence:
        """The evidence with the medications in another order."""
        return replace(self, tables=self.tables[:, :, order], indications=None)

    def shuffled_titles(self, seed: int) -> CodeEvidence:
        """The same titles given to other codes of the same system."""
        generator, order = np.random.default_rng(seed), np.arange(len(self.codes))
        systems = np.array([code.partition(":")[0] for code in self.codes])
        for system in sorted(set(systems)):
            inside = np.flatnonzero(systems == system)
            order[inside] = generator.permutation(inside)
        aligned = None if self.aligned is None else self.aligned[order]
        return replace(self, tables=self.tables[:, order], titles=self.titles[order], aligned=aligned,
                       indications=None)


def unit_rows(rows: NDArray[np.floating]) -> Floats:
    """The rows divided by their lengths; a row of zeros stays one."""
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)).astype(np.float32)


def standardised_table(table: Floats, titled: NDArray[np.bool_], known: NDArray[np.bool_]) -> Floats:
    """A table [C, K] centred by medication, then by code, over the code's standard deviation; zero outside."""
    inside = titled[:, None] & known[None, :]
    table = np.where(inside, table - table[titled].mean(0, keepdims=True) if titled.any() else 0.0, 0.0)
    count = max(int(known.sum()), 1)
    table = np.where(inside, table - table.sum(1, keepdims=True) / count, 0.0)
    spread = np.sqrt((table**2).sum(1, keepdims=True) / count)
    return np.where(spread > 1e-6, table / np.maximum(spread, 1e-6), 0.0).astype(np.float32)


def read_evidence(connection: Connection, encode: Encode, align: Align, codes: Sequence[str],
                  drugs: Sequence[Sequence[int]], fused_ids: NDArray[np.int64], fused: Floats,
                  medications: Sequence[str] = ()) -> CodeEvidence:
    """The evidence for ``codes`` and the medications whose drugs are ``drugs``, from what is known now.

    ``fused`` float32[n, D] are the published vectors of ``fused_ids``. With the codes of the ``medications`` come
    their indications.
    """
    from kb.query import read as query

    titles = [title(code) or "" for code in codes]
    titled = np.array([bool(text) for text in titles], bool)
    sentences = unit_rows(_encoded(encode, titles))
    wanted = {drug for members in drugs for drug in members}
    place = {int(drug): row for row, drug in enumerate(fused_ids)}
    texts = [(text.drug_id, text.text) for text in query.texts(connection) if text.drug_id in wanted]
    described = _grouped((drug, row) for row, (drug, _) in enumerate(texts))
    treated = read_statements(connection, wanted)
    names = sorted({one.disease for one in treated})
    number = {name: row for row, name in enumerate(names)}
    below = codes_below(codes, {code for one in treated for code in one.icd10})
    diseases = unit_rows(_encoded(encode, names))
    aligned = unit_rows(align(sentences))
    tables = (
        _table(aligned @ unit_rows(fused).T, {d: [place[d]] for d in wanted if d in place}, drugs),
        _table(sentences @ unit_rows(_encoded(encode, [text for _, text in texts])).T, described, drugs),
        _table(letter_cosines(titles, [" ".join(texts[row][1] for row in rows) for rows in described.values()]),
               {drug: [row] for row, drug in enumerate(described)}, drugs),
        _table(sentences @ diseases.T, _grouped((one.drug, number[one.disease]) for one in treated), drugs),
    )
    stated = _stated([(one.drug, row) for one in treated for code in one.icd10 for row in below.get(code, ())],
                     len(codes), drugs)
    found = None
    if medications:
        listed = query.drugs(connection)
        found = nearest_diseases(codes, sentences * titled[:, None], names, diseases, treated, medications, drugs,
                                 dict(zip(listed.ids.tolist(), listed.names, strict=True)), below)
    by_vector, by_sentence, by_letters, by_disease = (
        standardised_table(table, titled, known) for table, known in tables)
    told = [by_vector, (by_sentence + by_letters) / np.sqrt(2.0), by_disease, stated]
    return CodeEvidence(tuple(codes), np.stack(told).astype(np.float32), sentences * titled[:, None],
                        aligned * titled[:, None], found)


def read_statements(connection: Connection, drugs: Collection[int]) -> list[Statement]:
    """What these drugs are given for, one statement a drug and disease: the graph's and the table's, sources joined."""
    from kb.query import read as query

    sources: dict[tuple[int, str], dict[str, None]] = defaultdict(dict)
    written: dict[tuple[int, str], str] = {}
    icd10: dict[tuple[int, str], dict[str, None]] = defaultdict(dict)
    said = [(drug, name, source, ()) for drug, name, source in query.treated_diseases(connection)]
    for drug, name, source, codes in (*said, *((one.drug_id, one.disease, one.provider, one.icd10)
                                               for one in query.indications(connection))):
        if drug in drugs:
            key = drug, name.casefold()
            written.setdefault(key, name)
            sources[key][source] = None
            icd10[key].update(dict.fromkeys(codes))
    return [Statement(drug, written[drug, key], tuple(sources[drug, key]), tuple(icd10[drug, key]))
            for drug, key in sorted(written)]


def codes_below(codes: Sequence[str], above: Collection[str]) -> dict[str, list[int]]:
    """The places among ``codes`` of those that are, or stand below, each of the ICD-10-CM codes ``above``."""
    found: dict[str, list[int]] = defaultdict(list)
    for place, code in enumerate(codes):
        for node in code_lineage(code):
            system, _, value = node.partition(":")
            if system == "ICD10CM" and value in above:
                found[value].append(place)
    return found


def _stated(pairs: Iterable[tuple[int, int]], codes: int, drugs: Sequence[Sequence[int]]) -> Floats:
    """float32[C, K]: the share of a medication's drugs that are stated for a code, of those that are stated for
    anything, over the square root of how many medications are; ``STATED`` on the mean of those above 0."""
    rows_of, out = _grouped(pairs), np.zeros((codes, len(drugs)), np.float32)
    for medication, members in enumerate(drugs):
        having = [rows_of[drug] for drug in members if drug in rows_of]
        for rows in having:
            out[np.unique(rows), medication] += 1 / len(having)
    out /= np.sqrt(np.maximum((out > 0).sum(1, keepdims=True), 1))
    return out * (STATED / out[out > 0].mean()) if out.any() else out


def letter_cosines(titles: Sequence[str], texts: Sequence[str]) -> Floats:
    """float32[C, n]: cosines of C titles and n texts by TF-IDF of the 4- and 5-letter parts of their words.

    They find names that a sentence encoder has no notion of: "hypokal" in "hypokalemia" and in a label.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    every = (*titles, *texts)
    if not any(map(str.strip, every)):
        return np.zeros((len(titles), len(texts)), np.float32)
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(4, 5), sublinear_tf=True, dtype=np.float32)
    rows = parts.fit_transform(every)
    found: Floats = (rows[:len(titles)] @ rows[len(titles):].T).toarray()
    return found


def _encoded(encode: Encode, texts: Sequence[str]) -> Floats:
    """The sentence vectors of distinct texts, each encoded once; zero for an empty text."""
    distinct = sorted({text for text in texts if text})
    vectors = encode(distinct or ["none"])
    number = {text: row for row, text in enumerate(distinct)}
    out = np.zeros((len(texts), vectors.shape[1]), np.float32)
    for row, text in enumerate(texts):
        if text:
            out[row] = vectors[number[text]]
    return out


def _grouped(pairs: Iterable[tuple[int, int]]) -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for drug, row in pairs:
        found[drug].append(row)
    return found


def _table(cosines: Floats, rows_of: Mapping[int, Sequence[int]],
           drugs: Sequence[Sequence[int]]) -> tuple[Floats, NDArray[np.bool_]]:
    """[C, K]: the mean over a medication's drugs of the largest cosine with any of the drug's rows, and who has any."""
    out, known = np.zeros((len(cosines), len(drugs)), np.float32), np.zeros(len(drugs), bool)
    best = {drug: cosines[:, list(rows)].max(1) for drug, rows in rows_of.items() if len(rows)}
    for medication, members in enumerate(drugs):
        having = [best[drug] for drug in members if drug in best]
        if having:
            out[:, medication], known[medication] = np.mean(having, axis=0), True
    return out, known
