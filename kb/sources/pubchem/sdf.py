"""Reads one raw part of PubChem's bulk files: a 2D record of an SD file, or a line of ``CID-InChI-Key``/``CID-SMILES``.

Whatever is wrong with a part is a DataError with the reason; nothing is guessed. A record goes through the same schema
and proof as an answer of PUG REST. PubChem's ``pubchem_sdtags.pdf`` (Compound/Documentation) documents the tags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kb import sdf
from kb.errors import DataError
from kb.identity.identifiers import Identifier
from kb.normalise import clean, tidy
from kb.sources.pubchem import schema
from kb.sources.pubchem.bodies import ContentError
from kb.sources.pubchem.parse import compound_of
from kb.sources.pubchem.proof import Compound, prove

MAX_HEAVY_ATOMS = 1_000
MAX_SMILES = 10_000

_COUNTS: dict[str, tuple[str, ...]] = {
    "CovalentUnitCount": ("PUBCHEM_COMPONENT_COUNT",),
    "HBondDonorCount": ("PUBCHEM_CACTVS_HBOND_DONOR",),
    "HBondAcceptorCount": ("PUBCHEM_CACTVS_HBOND_ACCEPTOR",),
    "RotatableBondCount": ("PUBCHEM_CACTVS_ROTATABLE_BOND",),
    "HeavyAtomCount": ("PUBCHEM_HEAVY_ATOM_COUNT",),
    "Charge": ("PUBCHEM_TOTAL_CHARGE",),
}
_NUMBERS: dict[str, tuple[str, ...]] = {
    "MolecularWeight": ("PUBCHEM_MOLECULAR_WEIGHT",),
    "MonoisotopicMass": ("PUBCHEM_MONOISOTOPIC_WEIGHT",),
    "XLogP": ("PUBCHEM_XLOGP3", "PUBCHEM_XLOGP3_AA"),
    "TPSA": ("PUBCHEM_CACTVS_TPSA",),
    "Complexity": ("PUBCHEM_CACTVS_COMPLEXITY",),
}
_TEXTS: dict[str, tuple[str, ...]] = {
    "Title": ("PUBCHEM_IUPAC_TRADITIONAL_NAME", "PUBCHEM_IUPAC_NAME", "PUBCHEM_IUPAC_OPENEYE_NAME"),
    "IUPACName": ("PUBCHEM_IUPAC_NAME",),
    "MolecularFormula": ("PUBCHEM_MOLECULAR_FORMULA",),
    "SMILES": ("PUBCHEM_SMILES", "PUBCHEM_OPENEYE_ISO_SMILES", "PUBCHEM_CONNECTIVITY_SMILES",
               "PUBCHEM_OPENEYE_CAN_SMILES"),
    "InChIKey": ("PUBCHEM_IUPAC_INCHIKEY",),
}
"""PUG REST's tags and those of the files that carry the same, the first that is there winning."""
_STEREO = ("PUBCHEM_ATOM_DEF_STEREO_COUNT", "PUBCHEM_ATOM_UDEF_STEREO_COUNT")
_INTEGER = re.compile(r"-?\d{1,6}", re.ASCII)


def parse_flat(raw: sdf.Raw) -> Compound:
    """The compound of a 2D record, proven; without a title it goes by its traditional IUPAC name."""
    record = sdf.parse_sd_record(raw)
    if record.unfinished is not None:
        raise DataError(f"the file ends within its last record, in {record.unfinished}")
    cid = cid_of(record.items.get("PUBCHEM_COMPOUND_CID", ""))
    if record.title != str(cid):
        raise DataError(f"the record is headed {record.title[:20]!r} and tagged CID {cid}")
    row: dict[str, Any] = {"CID": cid, "AtomStereoCount": sum(_integer(record.items, (tag,)) or 0 for tag in _STEREO)}
    said: dict[str, Any] = {tag: _integer(record.items, names) for tag, names in _COUNTS.items()}
    said |= {tag: _decimal(record.items, names) for tag, names in _NUMBERS.items()}
    said |= {tag: _first(record.items, names) for tag, names in _TEXTS.items()}
    row |= {tag: value for tag, value in said.items() if value is not None}
    try:
        checked = schema.validated(schema.PropertyRow, row, "the record")
        if checked.HeavyAtomCount > MAX_HEAVY_ATOMS:
            raise DataError(f"{checked.HeavyAtomCount} heavy atoms: the limit is {MAX_HEAVY_ATOMS:,}")
        return prove(compound_of(checked))
    except ContentError as error:
        raise DataError(str(error)) from None


def parse_line(raw: bytes, role: str) -> Compound:
    """The compound of a line of ``CID-InChI-Key`` (CID, InChI, InChIKey) or ``CID-SMILES`` (CID, SMILES).

    The InChIKey must be that of the InChI; where only the SMILES is known it is computed from it.
    """
    cells = _text_of(raw).split("\t")
    if len(cells) != (3 if role == "inchikey" else 2):
        raise DataError(f"{len(cells)} columns")
    cid = cid_of(cells[0])
    if role == "inchikey":
        from rdkit.Chem import InchiToInchiKey

        inchikey = stated_inchikey(cells[2])
        if (computed := InchiToInchiKey(cells[1])) != inchikey:
            raise DataError(f"InChIKey {inchikey} is not that of the InChI, {computed or 'which is none'}")
        return Compound(cid, f"CID {cid}", "", None, inchikey, None, 1, {})
    from kb.chemistry import standardise

    molecule = standardise(cells[1])
    units = molecule.smiles.count(".") + 1
    return Compound(cid, f"CID {cid}", molecule.formula, molecule.smiles, molecule.inchikey, None, units, {})


def _text_of(raw: bytes) -> str:
    try:
        return clean(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError("not UTF-8") from None


def cid_of(text: str) -> int:
    """The CID that a text is; raises DataError otherwise."""
    return int(Identifier.make("pubchem.compound", text).value)


def stated_inchikey(text: str) -> str:
    """The InChIKey that a text is; raises DataError otherwise, since it is what identifies the drug."""
    return Identifier.make("inchikey", text).value


def smiles_of(text: str) -> str | None:
    """The SMILES, None where there is none; raises DataError when it is too long to be read by anything."""
    if len(text) > MAX_SMILES:
        raise DataError(f"a SMILES of {len(text):,} characters: the limit is {MAX_SMILES:,}")
    return text or None


def _first(items: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((tidy(items[name]) for name in names if items.get(name)), None)


def _integer(items: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    """The integer under the first tag that is there; raises DataError for a text that is none."""
    text = _first(items, names)
    if text is not None and not _INTEGER.fullmatch(text):
        raise DataError(f"{names[0]} is {text[:30]!r}")
    return None if text is None else int(text)


def _decimal(items: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    """The number under the first tag that is there; raises DataError for a text that is none."""
    text = _first(items, names)
    try:
        return None if text is None else float(schema.decimal(text))
    except ValueError as error:
        raise DataError(f"{names[0]}: {error}") from None
