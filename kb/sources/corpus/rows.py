"""Reads the bundle's tables into records; every reader is a pure function of the files and the drug ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sqlalchemy import Connection, select

from kb.bundle import Bundle
from kb.languages import ENGLISH
from kb.licences import BY, BY_SA, CC0, LICENCES, NCBI, US_GOVERNMENT
from kb.modalities import Modality, State
from kb.normalise import Identifier
from kb.properties import PROPERTIES
from kb.schema.identity import drug, drug_record
from kb.sources.contract import (
    ConformerRecord,
    Document,
    DrugRecord,
    IndicationRecord,
    Name,
    Origin,
    Outcome,
    PropertyRecord,
    RecordBatch,
    TextRecord,
)

PARSER = "corpus/1"
BY_SA_3 = LICENCES["CC-BY-SA-3.0"]
OWN_LICENCES = (
    BY_SA, BY_SA_3, LICENCES["ODbL-1.0"], BY, CC0, US_GOVERNMENT, NCBI, LICENCES["LicenseRef-WordNet-3.0"],
    LICENCES["LicenseRef-DGIdb"],
)
"""Those that rows of the bundle carry, the source's own first."""

PUBCHEM = Origin("pubchem", "PubChem", "https://pubchem.ncbi.nlm.nih.gov", "fetched", (NCBI,))
NAMES = Origin(
    "names", "Brand and other names", "https://pypi.org/project/drug-named-entity-recognition/", "bundled", (BY_SA_3,)
)
CCD = Origin("ccd", "wwPDB Chemical Component Dictionary", "https://www.wwpdb.org/data/ccd", "bundled", (CC0,))


def drug_records(bundle: Bundle, document: Document) -> Iterator[DrugRecord]:
    """Every drug of the corpus, the best described first."""
    for row in bundle.rows("drugs.tsv.gz"):
        yield DrugRecord(
            key=row["key"],
            name=row["name"],
            document=document,
            kind=row["kind"],
            smiles=row["smiles"] or None,
            inchikey=row["inchikey"] or None,
            formula=row["formula"] or None,
            identifiers=tuple(Identifier.parse(text) for text in _list(row["identifiers"])),
            names=tuple(Name(text) for text in _list(row["synonyms"])),
        )


def _list(cell: str) -> list[str]:
    return cell.split(" | ") if cell else []


def handles(record: DrugRecord) -> set[str]:
    """Everything that a user may call the drug by, in small letters."""
    known = {record.key, record.name, record.inchikey or record.key, *(n.text for n in record.names)}
    for identifier in record.identifiers:
        known |= {str(identifier), identifier.value}
    return {text.lower() for text in known}


def drug_ids(connection: Connection) -> dict[str, int]:
    """The ``drug.id`` of every record key of the corpus that is in the database."""
    query = select(drug_record.c.key, drug_record.c.drug_id).where(drug_record.c.source == "corpus")
    return {key: drug_id for key, drug_id in connection.execute(query)}  # noqa: C416 - rows are not pairs to mypy


def drawn_ids(connection: Connection) -> dict[str, int]:
    """``drug_ids`` without the records whose structure is another substance's, and so not their drug's."""
    query = (
        select(drug_record.c.key, drug_record.c.drug_id)
        .join(drug, drug.c.id == drug_record.c.drug_id)
        .where(drug_record.c.source == "corpus")
        .where(drug_record.c.inchikey.is_(None) | (drug_record.c.inchikey == drug.c.inchikey))
    )
    return {key: drug_id for key, drug_id in connection.execute(query)}  # noqa: C416 - rows are not pairs to mypy


def name_records(bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
    """Brand and other names as claims of their own, since they are under another licence than the drugs' records."""
    document = bundle.document("names.tsv.gz", NAMES.name, PARSER)
    called: dict[str, list[Name]] = {}
    for row in bundle.rows("names.tsv.gz"):
        if row["key"] in ids:
            called.setdefault(row["key"], []).append(Name(row["name"]))
    return RecordBatch(
        drugs=[
            DrugRecord(
                key=row["key"], name=row["name"], document=document, kind=row["kind"],
                identifiers=(Identifier.parse(row["key"]),), names=tuple(called[row["key"]]),
            )
            for row in bundle.rows("drugs.tsv.gz")
            if row["key"] in called
        ]
    )


def text_records(bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
    """All descriptions, each with its provider and its own licence."""
    document = bundle.document("texts.tsv.gz", "corpus", PARSER)
    return RecordBatch(
        payloads=[
            TextRecord(
                drug=ids[row["key"]],
                document=document,
                provider=row["provider"],
                content=row["content"],
                licence=row["licence"],
                heading=row["heading"],
                is_note=row["is_note"] == "1",
                language=ENGLISH,
            )
            for row in bundle.rows("texts.tsv.gz")
            if row["key"] in ids
        ]
    )


def indication_records(bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
    """What drugs are given for, each statement with its provider and its own licence."""
    document = bundle.document("indications.tsv.gz", "corpus", PARSER)
    return RecordBatch(
        indications=[
            IndicationRecord(
                drug=ids[row["key"]],
                document=document,
                provider=row["provider"],
                licence=row["licence"],
                disease=row["disease"],
                kind=row["kind"],
                disease_ids=tuple(filter(None, row["ids"].split("|"))),
                icd10=tuple(filter(None, row["icd10"].split("|"))),
                icd10_by=row["icd10_by"] or None,
                evidence=row["evidence"] or None,
                reference=row["reference"] or None,
            )
            for row in bundle.rows("indications.tsv.gz")
            if row["key"] in ids
        ],
        whole=True,
    )


def pubchem_properties(bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
    """The properties that PubChem computed, as recorded."""
    document = bundle.document("properties_pubchem.tsv.gz", "pubchem", PARSER)
    return RecordBatch(
        payloads=[
            PropertyRecord(
                ids[row["key"]], document, {name: float(row[name]) for name in PROPERTIES if row.get(name)}
            )
            for row in bundle.rows("properties_pubchem.tsv.gz")
            if row["key"] in ids
        ]
    )


def _conformers(
    bundle: Bundle, file: str, source: str, ids: Mapping[str, int], computed: Mapping[str, str] | None = None
) -> RecordBatch:
    """The conformers of a file; ``computed`` has the SMILES, by key, that they were computed from."""
    document = bundle.document(file, source, PARSER)
    batch = RecordBatch()
    for key, block, items in bundle.molecules(file):
        if key in ids:
            heavy = sum(line[31:34].strip() != "H" for line in _atom_lines(block))
            note = f"component {items['CCD']}" if "CCD" in items else None
            smiles = computed.get(key) if computed else None
            batch.payloads.append(
                ConformerRecord(ids[key], document, block, heavy, items["METHOD"], None, note, computed_from=smiles)
            )
    return batch


def _atom_lines(block: str) -> list[str]:
    """The atom lines of a V2000 block; the count stands in the first three columns of line 4."""
    lines = block.split("\n")
    return lines[4 : 4 + int(lines[3][:3])]


def ccd_conformers(bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
    """The coordinates of the Chemical Component Dictionary; drugs with a SMILES that is not in it are absent there."""
    batch = _conformers(bundle, "conformers_ccd.sdf.gz", "ccd", ids)
    document = bundle.document("conformers_ccd.sdf.gz", "ccd", PARSER)
    have = {record.drug for record in batch.payloads}
    lacking = f"rule:no-component-with-this-inchikey conformers_ccd.sdf.gz sha256={document.sha256.hex()[:16]}"
    looked_up = {ids[row["key"]] for row in bundle.rows("drugs.tsv.gz") if row["smiles"] and row["key"] in ids}
    batch.outcomes = [
        Outcome(drug, Modality.structure, State.absent, evidence=lacking, document=document)
        for drug in sorted(looked_up)
        if drug not in have
    ]
    return batch


def rdkit_conformers(bundle: Bundle, ids: Mapping[str, int]) -> RecordBatch:
    """The conformers that were computed beforehand, by the method that the source ``rdkit`` uses."""
    smiles = {row["key"]: row["smiles"] for row in bundle.rows("drugs.tsv.gz") if row["smiles"]}
    return _conformers(bundle, "conformers_rdkit.sdf.gz", "rdkit", ids, smiles)


Step = Callable[[Bundle, Mapping[str, int]], RecordBatch]
STEPS: tuple[tuple[str, str, Step], ...] = (
    ("names.tsv.gz", NAMES.name, name_records),
    ("texts.tsv.gz", "corpus", text_records),
    ("indications.tsv.gz", "corpus", indication_records),
    ("properties_pubchem.tsv.gz", "pubchem", pubchem_properties),
    ("conformers_ccd.sdf.gz", "ccd", ccd_conformers),
    ("conformers_rdkit.sdf.gz", "rdkit", rdkit_conformers),
)
"""File, the source that its rows are filed under, and its reader."""
OF_STRUCTURES = frozenset({"properties_pubchem.tsv.gz", "conformers_ccd.sdf.gz", "conformers_rdkit.sdf.gz"})
"""Files whose rows are of a drug's structure."""
