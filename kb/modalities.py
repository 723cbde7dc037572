"""The five modalities, and the six states that a cell of the bucket matrix can be in.

``graph`` is the drug's place in the knowledge graph and ``structure`` its 3D conformer; the atoms-and-bonds graph of
the SMILES is the *molecule*, the anchor that the five are aligned to, and not a sixth modality.
"""

from __future__ import annotations

from enum import StrEnum


class Modality(StrEnum):
    """What can be known of a drug."""

    image = "image"
    text = "text"
    structure = "structure"
    property = "property"
    graph = "graph"


MODALITIES: tuple[Modality, ...] = tuple(Modality)

IDENTITY = "identity"
"""The ledger's sixth column: names and identifiers. It is work to be done like the others, but not a modality."""

FACETS: tuple[str, ...] = (*MODALITIES, IDENTITY)


class State(StrEnum):
    """What is known about whether a source has one modality of one drug.

    ``absent`` is knowledge and needs proof; ``failed`` may be tried again; ``rejected`` came but broke a stated rule;
    ``withheld`` exists but its licence or size keeps it out; ``unknown`` has not been asked.
    """

    unknown = "unknown"
    present = "present"
    absent = "absent"
    failed = "failed"
    rejected = "rejected"
    withheld = "withheld"
