"""Sources: each one file behind one contract, found by name."""

from kb.registry import Registry
from kb.sources.contract import Source

SOURCES: Registry[type[Source]] = Registry(
    "source",
    {
        "corpus": "kb.sources.corpus:Corpus",
        "pubchem": "kb.sources.pubchem:PubChem",
        "pubchem-bulk": "kb.sources.pubchem_bulk:PubChemBulk",
        "drkg": "kb.sources.drkg:Drkg",
        "interactions": "kb.sources.interactions:Interactions",
        "atc": "kb.sources.atc:Atc",
        "tabular": "kb.sources.tabular:Tabular",
        "rdkit": "kb.sources.rdkit:RdkitSource",
    },
)

__all__ = ["SOURCES", "Source"]
