"""A small knowledge base in a real database: drugs with everything, with little, without a structure, and with nothing."""

from __future__ import annotations

from datetime import UTC, datetime

from rdkit import Chem
from rdkit.Chem import AllChem, Descriptors
from rdkit.Chem.Draw import rdMolDraw2D
from small_corpus import SMILES
from sqlalchemy import Engine, text

from embed.training import job
from kb.ingest.engine import register_source
from kb.ingest.write import write_batch
from kb.ledger.entries import start_run
from kb.licences import CC0
from kb.sources.contract import (
    ConformerRecord,
    Document,
    DrugRecord,
    ImageRecord,
    Plan,
    PropertyRecord,
    RecordBatch,
    Source,
    TextRecord,
)

NO_STRUCTURE = ("insulin", "heparin")
NOTHING = "mystery"


class Hand(Source):
    """A source whose records are made here."""

    name, title, url, origin, licences = "hand", "by hand", "https://example.org", "user", (CC0,)

    def plan(self, job):
        return Plan(0)

    def read(self, job):
        raise NotImplementedError


def document(payload: bytes | str, media_type: str = "text/plain") -> Document:
    data = payload.encode() if isinstance(payload, str) else payload
    return Document("hand", "https://example.org/x", media_type, CC0.id, "somebody", datetime.now(UTC), "hand/1",
                    payload=data)


def drawing(mol: Chem.Mol) -> bytes:
    canvas = rdMolDraw2D.MolDraw2DCairo(64, 64)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, mol)
    canvas.FinishDrawing()
    return canvas.GetDrawingText()


def records() -> RecordBatch:
    """Molecules (those of the small corpus, plain and with tails), two drugs without a structure, one bare name."""
    drugs, payloads = [], []
    parsed = [Chem.MolFromSmiles(tail + s) for tail in ("", "CCCC", "NCCOC") for s in SMILES if "." not in s]
    for number, mol in enumerate([mol for mol in parsed if mol is not None][:42]):
        key = f"drugbank:DB{number:05d}"
        drugs.append(DrugRecord(key, f"drug {number}", document(f"drug {number}"), "small molecule",
                                Chem.MolToSmiles(mol), Chem.MolToInchiKey(mol)))
        rings, weight = mol.GetRingInfo().NumRings(), Descriptors.MolWt(mol)
        payloads.append(TextRecord(key, document(f"text {number}"), "hand",
                                   f"A substance of {rings} rings and about {weight:.0f} dalton, no. {number}", CC0.id))
        payloads.append(ImageRecord(key, document(drawing(mol), "image/png"), 64, 64))
        payloads.append(PropertyRecord(key, document(f"numbers {number}"),
                                       {"mol_weight": weight, "rings": rings, "tpsa": Descriptors.TPSA(mol)}))
        solid = Chem.AddHs(mol)
        if number % 2 == 0 and AllChem.EmbedMolecule(solid, randomSeed=1) == 0:
            block = Chem.MolToMolBlock(solid)
            payloads.append(ConformerRecord(key, document(block), block, mol.GetNumAtoms(), "etkdg"))
    for number, name in enumerate((*NO_STRUCTURE, NOTHING)):
        key = f"drugbank:DB9{number:04d}"
        drugs.append(DrugRecord(key, name, document(name), "biotech"))
        if name in NO_STRUCTURE:
            payloads.append(TextRecord(key, document("text " + name), "hand", f"{name}: a large substance", CC0.id))
    return RecordBatch(drugs=tuple(drugs), payloads=tuple(payloads))


GRAPH = (
    "INSERT INTO mkmed.kg_relation (id, name, head_type, tail_type) VALUES (1, 'binds', 'Compound', 'Gene')",
    "INSERT INTO mkmed.kg_provenance (id, relation, provider, licence_id, source, artifact)"
    " SELECT 1, 1, 'hand', 'CC0-1.0', 'hand', id FROM mkmed.artifact LIMIT 1",
    "INSERT INTO mkmed.kg_entity (id, name, type) SELECT g, 'Gene::' || g, 'Gene' FROM generate_series(0, 7) g",
    "INSERT INTO mkmed.kg_entity (id, name, type) SELECT 100 + row_number() OVER (ORDER BY id), 'Compound::' || id,"
    " 'Compound' FROM mkmed.drug WHERE kind = 'small molecule'",
    "INSERT INTO mkmed.kg_triple SELECT 100 + n, 1, (n + k) % 8, 1 FROM generate_series(1, 30) n, generate_series(0, 2) k",
    "INSERT INTO mkmed.drug_entity (drug_id, entity_id, method, via, weak)"
    " SELECT substr(name, 11)::bigint, id, 'identifier', name, false FROM mkmed.kg_entity WHERE type = 'Compound'",
)


def fill(engine: Engine) -> None:
    """Write the small knowledge base."""
    with engine.begin() as connection:
        register_source(connection, Hand())
        run_id = start_run(connection, "ingest", name="hand")
        write_batch(connection, run_id, "hand", records())
        for statement in GRAPH:
            connection.execute(text(statement))


def sides_of_fit(monkeypatch) -> dict[str, set[int]]:
    """The drugs that the next training trains on (``train``) and validates on (``held``), once it has begun."""
    seen: dict[str, set[int]] = {}
    real = job.fit

    def watched(job_, resume):
        seen["train"] = set(job_.data.drug_ids[job_.train].tolist())
        seen["held"] = set(job_.data.drug_ids[job_.validation].tolist())
        return real(job_, resume)

    monkeypatch.setattr(job, "fit", watched)
    return seen
