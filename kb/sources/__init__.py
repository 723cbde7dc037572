"""Sources: each one file behind one contract, found by name."""

from kb.errors import UsageError
from kb.registry import Registry
from kb.sources.contract import Source

SOURCES: Registry[type[Source]] = Registry(
    "source",
    {
        "corpus": "kb.sources.corpus.source:CorpusSource",
        "pubchem": "kb.sources.pubchem.source:PubChem",
        "pubchem-bulk": "kb.sources.pubchem.bulk:PubChemBulk",
        "drkg": "kb.sources.drkg.source:Drkg",
        "interactions": "kb.sources.interactions:InteractionSource",
        "atc": "kb.sources.atc:Atc",
        "tabular": "kb.sources.tables.source:Tabular",
        "rxnorm": "kb.sources.rxnorm:RxNorm",
        "chembl": "kb.sources.chembl:Chembl",
        "hetionet": "kb.sources.graphs:Hetionet",
        "primekg": "kb.sources.graphs:PrimeKg",
        "graph": "kb.sources.graphs:UserGraph",
        "drugcentral": "kb.sources.drugcentral:DrugCentral",
        "openfda": "kb.sources.openfda:OpenFda",
        "dailymed": "kb.sources.dailymed:DailyMed",
        "drugbank": "kb.sources.drugbank:DrugBank",
        "unichem": "kb.sources.unichem:UniChem",
        "rdkit": "kb.sources.rdkit.source:RdkitSource",
    },
    group="mkmed.sources",
)


def adopt(plugin: object) -> type[Source]:
    """The source class ``plugin``, registered under its own name; raises UsageError when it is none."""
    if not (isinstance(plugin, type) and issubclass(plugin, Source) and isinstance(getattr(plugin, "name", None), str)):
        raise UsageError(f"{plugin!r} is not a source", hint="a source is a subclass of kb.sources.contract.Source")
    SOURCES.add(plugin.name, plugin)
    return plugin


__all__ = ["SOURCES", "Source", "adopt"]
