"""A few drugs that tests of search and of the Python API ask for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rdkit import Chem
from sqlalchemy import Engine, text

from kb.db.address import bare
from kb.db.reading import open_reading
from kb.ingest.engine import register_source
from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.licences import LICENCES
from kb.sources.contract import (
    AtcRecord,
    Document,
    DrugRecord,
    InteractionRecord,
    Name,
    Origin,
    PropertyRecord,
    RecordBatch,
    TextRecord,
)

if TYPE_CHECKING:
    from mkmed.serve.answers import Answers

DRUGS = {
    "Metformin": "CN(C)C(=N)NC(=N)N", "Phenformin": "N=C(N)NC(=N)NCCc1ccccc1", "Aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "Salicylamide": "NC(=O)c1ccccc1O", "Benzene": "c1ccccc1", "Sodium chloride": "[Cl-].[Na+]", "Heparin": None,
    "Sodium salicylate": "O=C([O-])c1ccccc1O.[Na+]",
}
TEXTS = {"Metformin": "A biguanide that lowers blood glucose in type 2 diabetes.",
         "Heparin": "An anticoagulant. It does not lower glucose.", "Aspirin": "Relieves pain and fever; thins blood."}


def fill(engine: Engine) -> None:
    """Write the drugs, their texts, a class, a property and an interaction."""
    with engine.begin() as connection:
        run_id = start_run(connection, "ingest", name="hand")
        register_source(connection, Origin("hand", "Hand", "https://example.org", "fetched", (LICENCES["CC0-1.0"],)))
        paper = Document("hand", "https://example.org/1", "text/plain", "CC0-1.0", "", datetime.now(UTC), "p", payload=b"x",
                         upstream_version="1")
        batch = RecordBatch()
        for number, (name, smiles) in enumerate(DRUGS.items()):
            molecule = Chem.MolFromSmiles(smiles) if smiles else None
            known = {"smiles": Chem.MolToSmiles(molecule), "inchikey": Chem.MolToInchiKey(molecule)} if molecule else {}
            batch.drugs.append(DrugRecord(f"user.hand:{number}", name, paper, names=(Name(f"{name} hydrate 50%"),), **known))
            if name in TEXTS:
                batch.payloads.append(TextRecord(f"user.hand:{number}", paper, "Hand book", TEXTS[name], "CC0-1.0"))
        batch.payloads.append(PropertyRecord("user.hand:0", paper, {"mol_weight": 129.16}))
        batch.atc.append(AtcRecord("user.hand:0", paper, "A10BA02"))
        batch.interactions.append(InteractionRecord("user.hand:2", "user.hand:6", paper, "Hand book", "CC0-1.0", "major", "bleeding"))
        write_batch(connection, run_id, "hand", batch)


def few_answers(database: Engine, home: Path, recommender: str = "popularity") -> Answers:
    """A service's answers on the few drugs, with vectors made by chance and a small recommender."""
    from embed.runs import store
    from kb.query.find import bring_up_to_date
    from mkmed.places import settings_of
    from mkmed.serve.answers import Answers
    from recsys.cohorts.prepare import prepare
    from recsys.experiments.config import from_json
    from recsys.experiments.runs import train_run

    fill(database)
    bring_up_to_date(database)
    with database.begin() as connection:
        ids = np.asarray(connection.scalars(text("SELECT id FROM mkmed.drug ORDER BY id")).all(), np.int64)
        run = start_run(connection, "pretrain", name="by hand")
    matrix = np.random.default_rng(0).normal(size=(len(ids), 8)).astype(np.float32)
    store.write_run(database, run, {"fused": (ids, matrix)}, np.ones((len(ids), 6), bool))
    store.publish(database, run)
    place = settings_of(None, home).model_copy(update={"database_url": settings_of(bare(database.url), None).database_url})
    prepare(form="synthetic", name="made", options={"patients": "60"}, settings=place)
    train_run(from_json({"cohort": "made", "recommender": recommender, "vectors": "learned", "resamples": 50,
                         "epochs": 3, "dim": 8}), place)
    return Answers(open_reading(place, seconds=5, connections=4), place)
