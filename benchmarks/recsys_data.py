"""The synthetic cohorts of the recommender benchmarks, and their dump for peers."""

from __future__ import annotations

import csv
import gzip
import io
import json
from importlib.resources import files
from pathlib import Path

import numpy as np

from recsys.cohorts.batches import Histories, histories
from recsys.cohorts.cohort import Cohort, Encoded, encode
from recsys.cohorts.tasks import patient_split
from recsys.experiments.runs import Data
from recsys.generators import clusters, guidelines
from recsys.generators.classes import class_interactions
from recsys.knowledge.table import Knowledge, no_knowledge
from recsys.orders.interactions import Interactions

DESIGNS = {"A": clusters.generate, "B": guidelines.generate}


def make_cohort(design: str) -> Cohort:
    """Cohort A (latent clusters) or B (guidelines) at the literature's shape."""
    return DESIGNS[design]()


def class_smiles(classes: tuple[str, ...]) -> dict[str, list[str]]:
    """Up to four SMILES of the bundled drugs of each ATC level-3 class, shortest names first."""
    found: dict[str, list[str]] = {code: [] for code in classes}
    smiles, codes = {}, []
    for name, keep in (("drugs.tsv.gz", smiles), ("atc.tsv.gz", codes)):
        with gzip.open(io.BytesIO(files("mkmed.demo").joinpath("data", name).read_bytes()), "rt") as stream:
            lines = csv.DictReader((line for line in stream if not line.startswith("#")), delimiter="\t")
            for row in lines:
                if isinstance(keep, dict):
                    keep[row["key"]] = row["smiles"]
                else:
                    keep.append((row["key"], row["code"]))
    for drug, code in codes:
        text = smiles.get(drug)
        if text and code[:4] in found and len(text) < 150 and len(found[code[:4]]) < 4:
            found[code[:4]].append(text)
    return found


def make_data(cohort: Cohort, seed: int = 0, knowledge: Knowledge | None = None) -> Data:
    """The cohort split by ``seed``, with bundled interactions and molecules and, by default, vectors to be learned."""
    encoded = encode(cohort, patient_split(cohort, seed))
    parts = {side: histories(encoded, side) for side in ("train", "validation", "test")}
    return Data(encoded, **parts, knowledge=knowledge or bare_knowledge(encoded))


def bare_knowledge(encoded: Encoded) -> Knowledge:
    """Interactions and molecules, no vectors."""
    codes = encoded.vocabularies["medication"].codes
    classes = tuple(code.removeprefix("ATC:") for code in codes)
    smiles = class_smiles(classes)
    return no_knowledge(codes, Interactions(class_interactions(list(classes)), "bundled"),
                        smiles=tuple(tuple(smiles[code]) for code in classes))


def dump_for_peers(data: Data, path: Path) -> None:
    """Write every visit with its history as PyHealth's samples: lists of codes, the current drugs as the label."""
    sides = {"train": data.train, "validation": data.validation, "test": data.test}
    samples: list[dict[str, object]] = []
    index: dict[str, list[int]] = {side: [] for side in sides}
    names = {kind: data.encoded.vocabularies[kind].codes for kind in ("diagnosis", "procedure", "medication")}
    classes = [code.removeprefix("ATC:") for code in names["medication"]]
    for side, visits in sides.items():
        lists = {"conditions": _texts(visits, "diagnosis", names["diagnosis"]),
                 "procedures": _texts(visits, "procedure", names["procedure"]),
                 "drugs": _texts(visits, "medication", classes)}
        for row in range(visits.visits):
            first = int(visits.starts[visits.patient_of[row]])
            history = {key: lists[key][first:row + 1] for key in ("conditions", "procedures")}
            # its tokenizers take no empty visit
            filled = {key: [codes or ["none"] for codes in value] for key, value in history.items()}
            index[side].append(len(samples))
            samples.append({"patient_id": f"{side}{int(visits.patient_of[row])}", "visit_id": str(len(samples)),
                            **filled, "drugs_hist": [*lists["drugs"][first:row], []], "drugs": lists["drugs"][row]})
    matrix = data.knowledge.interactions.matrix
    pairs = [[classes[i], classes[j]] for i, j in np.argwhere(np.triu(matrix))]
    smiles = {code: texts[0] for code, texts in zip(classes, data.knowledge.smiles, strict=True) if texts}
    path.write_text(json.dumps({"samples": samples, **index, "pairs": pairs, "smiles": smiles}))


def _texts(visits: Histories, kind: str, names: tuple[str, ...] | list[str]) -> list[list[str]]:
    codes = getattr(visits, kind)
    return [[names[i] for i in codes.row(v)] for v in range(visits.visits)]
