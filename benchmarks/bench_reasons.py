"""From the reason of a prescription to its ingredient by the knowledge base alone, on NHANES 2013-14.

    python benchmarks/bench_reasons.py NHANES/medications.csv.gz

Every row of a medication with a reason (an ICD-10-CM code and a text) asks for its ingredients; an arm answers with ten
drugs. The candidates are the drugs with an ATC code. ``indications``: the drugs that most providers say are given for
the code (or its category), and for a disease that shares words with the reason; equal ones by for how many diseases
they are given. ``text``: TF-IDF of the reason's words and the drugs' texts. ``popularity``: the ten ingredients of most
rows, which is learned from the same rows and so too good. The rows are read into this program and nowhere else.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from kb import output
from kb.db.engine import open_engine
from kb.names.lexicon import read_lexicon
from kb.names.words import canonical_name, without_salt
from kb.query import read

MISSING = {"", "55555", "77777", "99999"}
TOP = 10
CATEGORY = 3
SITES = re.compile(r" (nasal|ophthalmic|topical|otic|vaginal|rectal|oral|inhalation)$")
RESAMPLES = 1000


def asked(path: Path) -> list[tuple[str, str, str, str]]:
    """(person, medication, code, reason) of every row with a reason."""
    with gzip.open(path, "rt", encoding="latin-1", newline="") as lines:
        return [
            (row["SEQN"], row["RXDDRUG"], row["RXDRSC1"].replace(".", ""), row["RXDRSD1"])
            for row in csv.DictReader(lines)
            if row["RXDDRUG"] not in MISSING and row["RXDRSC1"] not in MISSING and row["RXDRSD1"].strip()
        ]


def words(text: str) -> frozenset[str]:
    """The words of a disease or a reason that tell it from others."""
    plain = re.findall(r"[a-z]{4,}", text.lower())
    return frozenset(word.removesuffix("s") for word in plain) - {"disease", "disorder", "other", "unspecified", "with"}


def main() -> None:
    """Ask every arm every row, and write the shares with intervals over persons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("medications", type=Path)
    given = parser.parse_args()
    rows = asked(given.medications)
    with open_engine().connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        lexicon = read_lexicon(connection)
        coded = {lexicon.base(drug) for drug, _ in read.atc(connection)}
        said = read.indications(connection)
        names = read.drugs(connection)
        texts = defaultdict(list)
        for text in read.texts(connection):
            if lexicon.base(text.drug_id) in coded:
                texts[lexicon.base(text.drug_id)].append(text.text)
    known: list[tuple[str, frozenset[int], str, str]] = []
    for person, medication, code, reason in rows:
        wanted = ingredients(medication, lexicon.meanings, lexicon.base) & coded
        if wanted:
            known.append((person, frozenset(wanted), code, reason))
    arms: dict[str, Callable[[str, str], Sequence[int]]] = {
        "indications": by_indication(said, lexicon.base, coded), "text": by_text(texts),
        "popularity": by_popularity(known)}
    hits = {name: np.array([bool(wanted & set(arm(code, reason)[:TOP])) for _, wanted, code, reason in known])
            for name, arm in cached(arms).items()}
    persons = np.unique([person for person, *_ in known], return_inverse=True)[1]
    result = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "rows with a reason": len(rows),
              "known": len(known), "persons": int(persons.max()) + 1, "candidates": len(coded), "drugs": len(names.ids),
              "top 10": {name: interval(found, persons) for name, found in hits.items()}}
    output.write(json.dumps(result, indent=1))
    (Path(__file__).parent / "results" / "reasons.json").write_text(json.dumps(result, indent=1) + "\n")


def cached(arms: dict[str, Callable[[str, str], Sequence[int]]]) -> dict[str, Callable[[str, str], Sequence[int]]]:
    """The arms, each asked once for a reason."""
    def remember(arm: Callable[[str, str], Sequence[int]]) -> Callable[[str, str], Sequence[int]]:
        answers: dict[tuple[str, str], Sequence[int]] = {}

        def ask(code: str, reason: str) -> Sequence[int]:
            if (code, reason) not in answers:
                answers[code, reason] = arm(code, reason)
            return answers[code, reason]

        return ask

    return {name: remember(arm) for name, arm in arms.items()}


def ingredients(medication: str, meanings: dict, base: Callable[[int], int]) -> set[int]:
    """The drugs that the row names."""
    found: set[int] = set()
    for part in medication.split(";"):
        name = canonical_name(SITES.sub("", part.strip().lower()))
        meaning = meanings.get(name) or meanings.get(without_salt(name))
        if meaning is not None:
            found |= {base(drug) for drug in meaning.drugs}
    return found


def by_indication(said: list, base: Callable[[int], int], coded: set[int]) -> Callable[[str, str], list[int]]:
    """Ranks by how many providers give the drug for the code, then for a disease of the same words."""
    provider_of: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    named: dict[frozenset[str], dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    breadth: Counter[int] = Counter()
    for use in said:
        drug = base(use.drug_id)
        if drug in coded:
            breadth[drug] += 1
            named[words(use.disease)][drug].add(use.provider)
            for code in use.icd10:
                provider_of[code][drug].add(use.provider)
                if len(code) > CATEGORY:
                    provider_of[code[:CATEGORY]][drug].add(use.provider)

    def ask(code: str, reason: str) -> list[int]:
        score: Counter[int] = Counter()
        for length in range(len(code), CATEGORY - 1, -1):
            for drug, providers in provider_of.get(code[:length], {}).items():
                score[drug] += 10 * len(providers) + (5 if length == len(code) else 0)
        asked_words = words(reason)
        for disease, drugs in named.items():
            shared = len(disease & asked_words)
            if shared:
                for drug, providers in drugs.items():
                    score[drug] += round(10 * len(providers) * shared / len(disease | asked_words))
        return sorted(score, key=lambda drug: (-score[drug], -breadth[drug], drug))

    return ask


def by_text(texts: dict[int, list[str]]) -> Callable[[str, str], list[int]]:
    """Ranks by TF-IDF similarity of the reason with all texts of the drug."""
    drugs = sorted(texts)
    model = TfidfVectorizer(stop_words="english", sublinear_tf=True)
    table = model.fit_transform([" ".join(texts[drug]) for drug in drugs])

    def ask(code: str, reason: str) -> list[int]:
        score = (table @ model.transform([reason]).T).toarray().ravel()
        return [drugs[place] for place in np.argsort(-score, kind="stable")[:TOP] if score[place] > 0]

    return ask


def by_popularity(known: list[tuple[str, frozenset[int], str, str]]) -> Callable[[str, str], list[int]]:
    """The ingredients of most rows, whatever the reason."""
    counts = Counter(drug for _, wanted, _, _ in known for drug in wanted)
    top = [drug for drug, _ in counts.most_common(TOP)]
    return lambda code, reason: top


def interval(found: np.ndarray, persons: np.ndarray) -> dict[str, float]:
    """The share, and its 95 % interval by drawing persons anew."""
    sums, sizes = np.bincount(persons, found), np.bincount(persons)
    chosen = np.random.default_rng(0).integers(0, len(sums), (RESAMPLES, len(sums)))
    shares = sums[chosen].sum(1) / sizes[chosen].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return {"share": round(float(found.mean()), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


if __name__ == "__main__":
    main()
