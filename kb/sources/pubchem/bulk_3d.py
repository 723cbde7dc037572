"""The 3D half of PubChem's bulk files: one conformer a compound, for drugs that are in the knowledge base already.

A 3D record has no InChIKey, so it says nothing about identity: the drug is found by its CID. A salt has no conformer of
its own and takes its parent's, which ``CID-Parent`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from sqlalchemy import Connection, select

from kb import output, sdf
from kb.ingest.records import ConformerRecord, Document, RecordBatch
from kb.ledger.cells import write_lookup
from kb.modalities import State
from kb.schema.identity import drug, identifier
from kb.schema.payloads import conformer
from kb.sources.contract import Part
from kb.sources.pubchem.bodies import ContentError
from kb.sources.pubchem.cells import METHOD
from kb.sources.pubchem.files import bulk_lines, open_bulk
from kb.sources.pubchem.parse import Structure, cid_of_record, parse_conformer

if TYPE_CHECKING:
    from kb.ingest.engine import Job

PART = 1_000
CID = "pubchem.compound"


def read_conformer_file(
    job: Job, path: Path, document: Document, parents: Path | None, wanted: frozenset[int] | None
) -> Iterator[Part]:
    """The conformers of all drugs that are known by CID; those of unknown compounds are counted."""
    drugs = job.transact(lambda c: _drugs_of(c, job, parents, wanted))
    unknown = 0
    with open_bulk(path) as stream:
        parts = sdf.split(stream)
        for start in count(0, PART):
            raw = list(islice(parts, PART))
            if not raw:
                break
            batch, rejected = RecordBatch(documents=[document]), dict[int, str]()
            for number, part in enumerate(raw, start + 1):
                try:
                    found = _conformers(part, drugs, document)
                except ContentError as error:
                    rejected[number] = str(error)
                    continue
                unknown += not found
                batch.payloads += found
            mark = f"bulk3d:{document.sha256.hex()[:24]}:{start}"
            cut = {part.number for part in raw if not part.closed} & rejected.keys()
            if batch.payloads or cut or not job.is_done(mark):
                filed = rejections(job, path, document, rejected, cut)
                yield Part(batch, None if cut else mark, size=len(raw), **filed)
            else:
                job.advance(len(raw), note="already there")
    if unknown:
        output.say(f"{unknown:,} conformers of {path.name} are of compounds that need none, or are no drugs here")


@dataclass(frozen=True, slots=True)
class Due:
    """A drug without a conformer: its structure, and a note when the conformer is its parent's."""

    drug_id: int
    structure: Structure
    note: str | None = None


def _drugs_of(
    connection: Connection, job: Job, parents: Path | None, wanted: frozenset[int] | None
) -> dict[int, list[Due]]:
    """By CID the drugs without a conformer that it serves."""
    query = (
        select(identifier.c.value, identifier.c.drug_id, drug.c.smiles, drug.c.formula)
        .join(drug, drug.c.id == identifier.c.drug_id)
        .where(identifier.c.namespace == CID)
        .distinct()
    )
    has = select(conformer.c.drug_id).where(conformer.c.source == job.source.name)
    every = {int(value): Due(drug_id, Structure(smiles, formula or ""))
             for value, drug_id, smiles, formula in connection.execute(query)}
    served = set() if job.refresh else set(connection.scalars(has))
    due = {c: d for c, d in every.items() if d.drug_id not in served and (wanted is None or c in wanted)}
    drugs: dict[int, list[Due]] = {cid: [known] for cid, known in due.items()}
    for child, parent in _parents(parents):
        if child in due and parent != child and (parent not in every or every[parent].drug_id != due[child].drug_id):
            note = f"of the parent compound, {CID}:{parent}"
            drugs.setdefault(parent, []).append(replace(due[child], note=note))
    return drugs


def _parents(path: Path | None) -> Iterator[tuple[int, int]]:
    """Pairs of CID and parent's CID."""
    if path is None:
        return
    with open_bulk(path) as stream:
        for line in bulk_lines(stream):
            child, _, parent = (line or b"").partition(b"\t")
            if child.isdigit() and parent.isdigit():
                yield int(child), int(parent)


def _conformers(part: sdf.Raw, drugs: Mapping[int, list[Due]], document: Document) -> list[ConformerRecord]:
    """The records of one conformer, one a drug that it serves."""
    cid = cid_of_record(part)
    found = []
    for known in drugs.get(cid or 0, []):
        parsed = parse_conformer(part, known.structure)
        found.append(ConformerRecord(known.drug_id, document, parsed.molblock, parsed.heavy_atoms, METHOD,
                                     parsed.energy, known.note))
    if cid is None:
        raise ContentError("a record that does not say whose it is")
    return found


class Rejections(TypedDict):
    """What a part brings along for the records that were refused."""

    also: Callable[[Connection, Mapping[str, int]], None]
    then: Callable[[], None]


def rejections(
    job: Job, path: Path, document: Document, rejected: Mapping[int, str], cut: Collection[int] = ()
) -> Rejections:
    """What files every record of a file that was refused, under its number and with the reason, and counts them.

    Records that the file ends within (``cut``) are failures: the file is not whole, and the ingest is incomplete.
    """

    def write(connection: Connection, _: Mapping[str, int]) -> None:
        for number, reason in sorted(rejected.items()):
            key = f"{path.name}:{document.sha256.hex()[:12]}:{number}"
            state = State.failed if number in cut else State.rejected
            write_lookup(connection, job.run_id, document.source, key, state, error=f"record {number}: {reason}"[:500])

    def count() -> None:
        job.counts["rejected"] += len(rejected)

    return {"also": write, "then": count}
