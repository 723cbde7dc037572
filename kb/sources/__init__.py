"""Sources: each one file behind one contract, found by name."""

from kb.registry import Registry
from kb.sources.contract import Source

SOURCES: Registry[type[Source]] = Registry(
    "source",
    {
        "corpus": "kb.sources.corpus.source:Corpus",
        "pubchem": "kb.sources.pubchem.source:PubChem",
        "pubchem-bulk": "kb.sources.pubchem.bulk:PubChemBulk",
        "drkg": "kb.sources.drkg.source:Drkg",
        "interactions": "kb.sources.interactions:Interactions",
        "atc": "kb.sources.atc:Atc",
        "tabular": "kb.sources.tables.source:Tabular",
        "rdkit": "kb.sources.rdkit.source:RdkitSource",
    },
)

__all__ = ["SOURCES", "Source"]
