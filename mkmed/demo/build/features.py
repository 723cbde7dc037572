"""Reads the corpus's texts with the default encoder, once for everybody: ``python -m mkmed.demo.build.features``.

Reading them takes two cores over a minute. Each vector lies under the sha256 of its text and the encoder's version (its
weights' sha256 and settings), so another text, encoder or setting never gets it: it is computed as ever.
"""

from __future__ import annotations

import shutil

from embed.config import TextConfig
from embed.features.cache import BUNDLED, FeatureCache, in_chunks, sha256
from embed.features.packed import Packed, vectors
from embed.features.text import packaged_minilm
from kb.bundle import CORPUS, Bundle
from mkmed.demo.build.manifest import write_checksums


def write_features() -> None:
    """Write the vectors of every distinct text of the corpus."""
    texts = sorted({row["content"] for row in Bundle.open().rows("texts.tsv.gz")})
    model = packaged_minilm(TextConfig(), None)

    def compute(indices: list[int]) -> tuple[list[int], Packed]:
        return indices, vectors(model.encode([texts[k] for k in indices]))

    shutil.rmtree(BUNDLED, ignore_errors=True)
    FeatureCache(BUNDLED).open(f"text-{model.name}", model.version, [sha256(text) for text in texts],
                               in_chunks(compute, len(texts)))
    write_checksums(CORPUS)


if __name__ == "__main__":
    write_features()
