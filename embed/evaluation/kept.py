"""What each training of a study measured, one file each, so that a study that was stopped goes on where it stood.

A file is named by everything that its figures hang on: the configuration with its seed and split, the knowledge base
that was read, the encoders, and mkmed's release. Any change there makes the training anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embed.config import PretrainConfig, to_json
from embed.evaluation.labels import EvaluationLabels
from embed.source import Corpus
from embed.training.foretell import chosen_encoder
from kb.files import replace_file
from kb.ledger.entries import program_version
from kb.output import plain, say

FORM = 1
"""Raise it when what is measured changes."""

Measured = dict[str, Any]


def corpus_digest(corpus: Corpus, labels: EvaluationLabels) -> str:
    """A sha256 over all that a study reads of the knowledge base: drugs, contents, graph and labels."""
    found = hashlib.sha256()
    for words in (corpus.identities, corpus.smiles, corpus.blocks, corpus.property_names, labels.codes):
        found.update(json.dumps(list(words)).encode())
    for part in (corpus.texts, corpus.images, corpus.conformers):
        found.update(np.ascontiguousarray(part.row).tobytes() + np.ascontiguousarray(part.sha256).tobytes())
    for array in (corpus.drug_ids, corpus.properties, *corpus.linked, labels.interactions, labels.indications,
                  labels.core):
        found.update(np.ascontiguousarray(array).tobytes())
    if corpus.triples is not None:
        for edges in (corpus.triples.head, corpus.triples.relation, corpus.triples.tail):
            found.update(np.ascontiguousarray(edges).tobytes())
        found.update(json.dumps([list(corpus.triples.entities), list(corpus.triples.relations)]).encode())
    return found.hexdigest()


@dataclass(frozen=True)
class KeptTrainings:
    """The measured trainings of a study in one folder; ``knowledge`` is the digest of what it reads."""

    folder: Path
    knowledge: str
    fresh: bool = False

    def measured(self, config: PretrainConfig, parts: Sequence[str], measure: Callable[[], Measured]) -> Measured:
        """What ``measure`` returns for a training of ``config``, or what it returned when it was asked before.

        ``parts`` say what is measured of it. With ``fresh`` everything is measured again.
        """
        path = self.folder / f"{self._key(config, parts)}.json"
        if path.is_file() and not self.fresh:
            say(f"measured before: {', '.join(parts)} ({path.name[:12]})")
            found: Measured = json.loads(path.read_text())
            return found
        done: Measured = plain(measure())
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(done), mode=None)
        return done

    def _key(self, config: PretrainConfig, parts: Sequence[str]) -> str:
        own = to_json(dataclasses.replace(config, device="cpu"))  # a card gives the same figures but for rounding
        del own["index"]  # a study stores nothing
        if own["loss"]["relation_targets"] == "batch":  # what was measured before there was a choice stays
            del own["loss"]["relation_targets"], own["loss"]["relation_neighbours"]
        if own["train"]["complete"] == 1:
            del own["train"]["complete"]
        facts = {"form": FORM, "release": program_version(), "config": own, "knowledge": self.knowledge,
                 "parts": list(parts), "unseen molecules": chosen_encoder(config.transfer)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]
