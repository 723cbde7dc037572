"""Fills a database with release 0.1.0, to be dumped: ``cd <checkout of 4bdec59> && python …/make_0_1_0.py``.

``MKMED_HOME`` says where; afterwards ``pg_dump --format=custom --compress=9 --no-owner`` of the embedded server's
database gives ``mkmed-0.1.0.dump``. What 0.1.0 got wrong with two files that count their keys is in it on purpose.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

FILES = {
    "painkillers.csv": (
        "key,name,smiles,text,weight,atc\n"
        "1,aspirin,CC(=O)Oc1ccccc1C(=O)O,Aspirin is an NSAID.,180.16,N02BA01\n"
        "2,paracetamol,CC(=O)Nc1ccc(O)cc1,Paracetamol lowers fever.,151.16,N02BE01\n"
        "3,house remedy,,Willow bark as tea.,,\n"
    ),
    "stimulants.csv": (
        "key,name,smiles,text,weight,atc\n"
        "1,caffeine,Cn1c(=O)c2c(ncn2C)n(C)c1=O,Caffeine keeps one awake.,194.19,N06BC01\n"
    ),
    "mine.csv": (
        "key,name,smiles,text,weight,atc\n"
        "x1,trimethylglycine,C[N+](C)(C)CC(=O)[O-],Betaine.,117.15,\n"
    ),
}
COLUMNS = {"key": "key", "name": "name", "smiles": "smiles", "text": "text", "property.mol_weight": "weight", "atc": "atc"}
COMPOUNDS = ("2244", "4091", "14219", "8057", "2349", "190")


def main() -> None:
    """Fill the database of ``MKMED_HOME``."""
    from kb.db.engine import open_engine
    from kb.ingest import ingest
    from kb.settings import Settings
    from kb.sources.contract import IngestOptions
    from kb.sources.pubchem import PubChem
    from tests.standin.quick import NO_LIMITS, settings_in
    from tests.standin.server import StandIn

    home = Path(os.environ["MKMED_HOME"])
    settings = Settings(home=home, workers=2)
    engine = open_engine(settings)
    ingest(engine, settings, "corpus", IngestOptions(limit=250))
    ingest(engine, settings, "corpus", IngestOptions(ids=("insulin human", "adalimumab", "filgrastim")))
    from tests.kb.test_pubchem import POLICY

    PubChem.policy = POLICY
    with StandIn(NO_LIMITS) as standin:
        asked = settings_in(home, pubchem_url=standin.url, contact="tests@example.org")
        ingest(engine, asked, "pubchem", IngestOptions(ids=COMPOUNDS))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            path = Path(folder) / name
            path.write_text(text)
            ingest(engine, settings, "tabular", IngestOptions(path=path, columns=COLUMNS))
            ingest(engine, settings, "rdkit", IngestOptions(modalities=("property",)))
        pairs = Path(folder) / "pairs.csv"
        pairs.write_text("drug_a,drug_b,severity\ncaffeine,metformin,minor\n")
        ingest(engine, settings, "interactions", IngestOptions(path=pairs))
    ingest(engine, settings, "rdkit", IngestOptions(modalities=("image",), limit=25))
    ingest(engine, settings, "rdkit", IngestOptions(modalities=("structure",), limit=10))


if __name__ == "__main__":
    main()
