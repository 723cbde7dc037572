"""Reads one raw part of PubChem's bulk files: a 2D record of an SD file, or a line of ``CID-InChI-Key``/``CID-SMILES``.

Whatever is wrong with a part is a DataError with the reason; nothing is guessed. The tags are documented in PubChem's
``pubchem_sdtags.pdf`` (Compound/Documentation).
"""

from __future__ import annotations

import math
import re

from kb.errors import DataError
from kb.identity.identifiers import Identifier
from kb.normalise import clean, tidy
from kb.sources.pubchem.parse import Compound

MAX_HEAVY_ATOMS = 1_000
MAX_SMILES = 10_000
_ITEM = re.compile(r"^>[^\n<]*<([A-Z0-9_]+)>[^\n]*\n(.*?)(?:\n[ \t]*(?:\n|\Z)|\Z)", re.MULTILINE | re.DOTALL)
_COUNTS = re.compile(r"[ \d]{6}.*V[23]000")

NUMBERS: dict[str, tuple[str, ...]] = {
    "mol_weight": ("PUBCHEM_MOLECULAR_WEIGHT",),
    "exact_mass": ("PUBCHEM_MONOISOTOPIC_WEIGHT", "PUBCHEM_EXACT_MASS"),
    "xlogp": ("PUBCHEM_XLOGP3", "PUBCHEM_XLOGP3_AA"),
    "tpsa": ("PUBCHEM_CACTVS_TPSA",),
    "hbond_donors": ("PUBCHEM_CACTVS_HBOND_DONOR",),
    "hbond_acceptors": ("PUBCHEM_CACTVS_HBOND_ACCEPTOR",),
    "rotatable_bonds": ("PUBCHEM_CACTVS_ROTATABLE_BOND",),
    "heavy_atoms": ("PUBCHEM_HEAVY_ATOM_COUNT",),
    "charge": ("PUBCHEM_TOTAL_CHARGE",),
    "complexity": ("PUBCHEM_CACTVS_COMPLEXITY",),
}
"""Canonical property names and the tags that carry them, the first that is there winning."""
_STEREO = ("PUBCHEM_ATOM_DEF_STEREO_COUNT", "PUBCHEM_ATOM_UDEF_STEREO_COUNT")
_SMILES = ("PUBCHEM_SMILES", "PUBCHEM_OPENEYE_ISO_SMILES", "PUBCHEM_CONNECTIVITY_SMILES", "PUBCHEM_OPENEYE_CAN_SMILES")
_NAMES = ("PUBCHEM_IUPAC_TRADITIONAL_NAME", "PUBCHEM_IUPAC_NAME", "PUBCHEM_IUPAC_OPENEYE_NAME")


def parse_flat(raw: bytes) -> Compound:
    """The compound of a 2D record; without a title it goes by its traditional IUPAC name."""
    text = _text_of(raw)
    tags = {name: value.strip() for name, value in _ITEM.findall(text)}
    head = text.split("\n", 4)
    if len(head) < 4 or not _COUNTS.match(head[3]) or "M  END" not in text:
        raise DataError("not a molecule: no counts line, or no M  END")
    cid = cid_of(tags.get("PUBCHEM_COMPOUND_CID", ""))
    if head[0].strip() != str(cid):
        raise DataError(f"the record is headed {head[0].strip()[:20]!r} and tagged CID {cid}")
    values = {name: number for name, found in NUMBERS.items() if (number := _number(tags, found)) is not None}
    if all(tag in tags for tag in _STEREO):
        values["stereo_centers"] = sum(_number(tags, (tag,)) or 0.0 for tag in _STEREO)
    if values.get("heavy_atoms", 0) > MAX_HEAVY_ATOMS:
        raise DataError(f"{values['heavy_atoms']:.0f} heavy atoms: the limit is {MAX_HEAVY_ATOMS:,}")
    name = next((tags[tag] for tag in _NAMES if tags.get(tag)), "")
    return Compound(
        cid=cid,
        title=tidy(name) or f"CID {cid}",
        formula=tags.get("PUBCHEM_MOLECULAR_FORMULA", ""),
        smiles=smiles_of(next((tags[tag] for tag in _SMILES if tags.get(tag)), "")),
        inchikey=inchikey_of(tags.get("PUBCHEM_IUPAC_INCHIKEY", "")),
        iupac_name=tidy(tags.get("PUBCHEM_IUPAC_NAME", "")) or None,
        units=int(_number(tags, ("PUBCHEM_COMPONENT_COUNT",)) or 1),
        values=values,
    )


def parse_line(raw: bytes, role: str) -> Compound:
    """The compound of a line of ``CID-InChI-Key`` (CID, InChI, InChIKey) or ``CID-SMILES`` (CID, SMILES).

    Where only the SMILES is known the InChIKey is computed from it.
    """
    cells = _text_of(raw).split("\t")
    if len(cells) != (3 if role == "inchikey" else 2):
        raise DataError(f"{len(cells)} columns")
    cid = cid_of(cells[0])
    if role == "inchikey":
        return Compound(cid, f"CID {cid}", "", None, inchikey_of(cells[2]), None, 1, {})
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


def inchikey_of(text: str) -> str:
    """The InChIKey that a text is; raises DataError otherwise, since it is what identifies the drug."""
    return Identifier.make("inchikey", text).value


def smiles_of(text: str) -> str | None:
    """The SMILES, None where there is none; raises DataError when it is too long to be read by anything."""
    if len(text) > MAX_SMILES:
        raise DataError(f"a SMILES of {len(text):,} characters: the limit is {MAX_SMILES:,}")
    return text or None


def _number(tags: dict[str, str], names: tuple[str, ...]) -> float | None:
    """The first finite number under the tags; raises DataError for a text that is none."""
    for name in names:
        if tags.get(name):
            try:
                number = float(tags[name])
            except ValueError:
                raise DataError(f"{name} is {tags[name][:30]!r}") from None
            return number if math.isfinite(number) else None
    return None
