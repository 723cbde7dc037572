"""What the stand-in knows: 125 real compounds, and the bodies that PubChem would give for them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "pubchem"
NUMBERS = {
    "MolecularWeight": ("mol_weight", str), "MonoisotopicMass": ("mono_mass", str), "ExactMass": ("mono_mass", str),
    "XLogP": ("xlogp", float), "TPSA": ("tpsa", float), "HBondDonorCount": ("hbd", int),
    "HBondAcceptorCount": ("hba", int), "RotatableBondCount": ("rot", int), "HeavyAtomCount": ("heavy", int),
    "Charge": ("charge", int), "AtomStereoCount": ("stereo", int), "CovalentUnitCount": ("units", int),
    "Complexity": ("heavy", float),
}
TEXTS = {"Title": "title", "IUPACName": "iupac", "MolecularFormula": "formula", "SMILES": "smiles",
         "ConnectivitySMILES": "smiles", "CanonicalSMILES": "smiles", "InChIKey": "inchikey"}
RENAMED = {"CanonicalSMILES": "ConnectivitySMILES", "IsomericSMILES": "SMILES"}
SILENT = 13
"""Compounds whose CID leaves 0 in division by it have no description; by 7, no 3D conformer."""
FLAT = 7


@lru_cache(maxsize=1)
def compounds() -> dict[int, dict[str, str]]:
    with (DATA / "compounds.tsv").open(encoding="utf-8", newline="") as file:
        return {int(row["cid"]): row for row in csv.DictReader(file, delimiter="\t")}


@lru_cache(maxsize=1)
def conformers() -> dict[int, str]:
    text = gzip.decompress((DATA / "conformers.sdf.gz").read_bytes()).decode()
    records = {int(part.split("\n", 1)[0]): part + "$$$$\n" for part in text.split("$$$$\n") if part.strip()}
    records = {cid: record for cid, record in records.items() if cid % FLAT}
    records[2244] = (DATA / "recorded" / "asprin_sdf_3d.sdf").read_text()
    return records


def find(namespace: str, value: str) -> list[int]:
    """CIDs by name, SMILES, InChIKey or DrugBank id."""
    wanted = value.strip().lower()
    found = []
    for cid, row in compounds().items():
        here = {"smiles": [row["smiles"]], "inchikey": [row["inchikey"]], "drugbank": [row["drugbank"]],
                "name": [row["title"], row["iupac"], row["cas"], *row["synonyms"].split("|")]}[namespace]
        if wanted and wanted in (text.lower() for text in here):
            found.append(cid)
    return found


def properties(cids: list[int], tags: list[str]) -> dict[str, Any] | None:
    rows = []
    for cid in cids:
        if cid not in compounds():
            continue
        known = compounds()[cid]
        row: dict[str, Any] = {"CID": cid}
        for tag in tags:
            if tag in NUMBERS:
                column, kind = NUMBERS[tag]
                row[tag] = kind(known[column])
            elif tag in TEXTS and known[TEXTS[tag]]:
                row[RENAMED.get(tag, tag)] = known[TEXTS[tag]]
        rows.append(row)
    return {"PropertyTable": {"Properties": rows}} if rows else None


def information(cids: list[int], tag: str) -> dict[str, Any] | None:
    rows = []
    for cid in reversed([c for c in cids if c in compounds()]):  # PubChem does not keep the order asked for
        known = compounds()[cid]
        values = {"Synonym": [known["title"], *known["synonyms"].split("|")], "RN": [known["cas"], "231-641-6"],
                  "RegistryID": [known["drugbank"] or known["cas"]], "ConformerID": [f"{cid:08X}00000001"]}[tag]
        rows.append({"CID": cid, tag: [value for value in values if value]})
    return {"InformationList": {"Information": rows}} if rows else None


def description(cid: int) -> dict[str, Any] | None:
    if cid not in compounds():
        return None
    rows: list[dict[str, Any]] = [{"CID": cid, "Title": compounds()[cid]["title"]}]
    for content, provider, url in _texts(cid):
        rows.append({"CID": cid, "Description": content, "DescriptionSourceName": provider, "DescriptionURL": url})
    return {"InformationList": {"Information": rows}}


def _texts(cid: int) -> list[tuple[str, str, str]]:
    title = compounds()[cid]["title"]
    if cid % SILENT == 0:
        return []
    return [
        (f"{title} is a compound of the formula {compounds()[cid]['formula']}.", "ChEBI", f"https://example.org/{cid}"),
        (f"{title} has been studied in humans.\u00a0It is given by mouth.", "DrugBank", f"https://example.org/d/{cid}"),
        (f"See also: {title} (related).", "PubChem", "https://pubchem.ncbi.nlm.nih.gov/"),
    ]


_LICENCES = {
    "ChEBI": {}, "PubChem": {},
    "DrugBank": {"LicenseNote": "Creative Common's Attribution-NonCommercial 4.0 International License"
                 " (http://creativecommons.org/licenses/by-nc/4.0/legalcode)",
                 "LicenseURL": "https://www.drugbank.ca/legal/terms_of_use"},
}


_LICENCES["NCI Thesaurus (NCIt)"] = {"LicenseNote": "CC BY 4.0", "LicenseURL": "https://creativecommons.org/licenses/by/4.0/"}
_LICENCES["WHO Anatomical Therapeutic Chemical (ATC) Classification"] = {
    "LicenseNote": "Use of all or parts of the material requires reference to the WHO Collaborating Centre; no commercial use",
    "LicenseURL": "https://www.whocc.no/copyright_disclaimer/"}
_PHARMACOLOGY: dict[int, dict[str, list[tuple[str, str]]]] = {2244: {
    "Mechanism of Action": [("Aspirin acetylates cyclooxygenase.", "NCI Thesaurus (NCIt)"),
                            ("Shut: it blocks prostaglandin synthesis.", "DrugBank")],
    "Drug Indication": [("For pain and fever.", "NCI Thesaurus (NCIt)")],
    "ATC Code": [("N02BA01 - Acetylsalicylic acid", "WHO Anatomical Therapeutic Chemical (ATC) Classification"),
                 ("B01AC06", "WHO Anatomical Therapeutic Chemical (ATC) Classification")]}}
"""What PUG View has of a compound under headings of pharmacology."""
TARGETS: dict[int, list[dict[str, Any]]] = {2244: [
    {"cid": "2244", "dsn": "DrugBank", "protname": "Prostaglandin G/H synthase 1", "srctargetname": "Prostaglandin G/H synthase 1",
     "genename": "PTGS1", "protacxn": "P23219", "taxname": "Homo sapiens (human)", "action": "Inhibitor", "actname": "", "actvalue": ""},
    {"cid": "2244", "dsn": "DrugBank", "protname": "Albumin", "srctargetname": "Albumin", "genename": "ALB", "protacxn": "P02768",
     "taxname": "Homo sapiens (human)", "action": "Binder", "actname": "", "actvalue": ""},
    {"cid": "2244", "dsn": "NCI Thesaurus (NCIt)", "protname": "", "srctargetname": "COX-2", "genename": "PTGS2", "protacxn": "",
     "taxname": "", "action": "", "actname": "IC50 (nM)", "actvalue": "2.4e+3"},
    {"cid": "2244", "dsn": "A source that no reference names", "protname": "AKR1C1", "srctargetname": "", "genename": "AKR1C1",
     "protacxn": "", "taxname": "", "action": "", "actname": "", "actvalue": ""}]}
"""Rows of the table of targets as the service gives them: all values are texts."""


@lru_cache(maxsize=4)
def _recorded_view(cid: int) -> dict[str, Any] | None:
    path = DATA / "recorded" / {2349: "pugview_penicillin.json", 8057: "pugview_bromopentane.json"}.get(cid, "none")
    if not path.exists():
        return None
    document = json.loads(path.read_bytes())
    record: dict[str, Any] = document.get("Record", document)
    return record


def view(cid: int, heading: str) -> dict[str, Any] | None:
    """A PUG View record pruned to one heading, with the references that are left."""
    if recorded := _recorded_view(cid):
        sections = _prune(recorded["Section"], heading)
        kept = set(_reference_numbers(sections))
        references = [ref for ref in recorded["Reference"] if ref["ReferenceNumber"] in kept]
        title = recorded["RecordTitle"]
    elif cid in compounds() and heading in ("Record Description", "Names and Identifiers"):
        title = compounds()[cid]["title"]
        texts = _texts(cid)
        references = [{"ReferenceNumber": i, "SourceName": p, "SourceID": f"{p}:{cid}", "Name": title, "URL": u,
                       "ANID": 1000 + i, **_LICENCES[p]} for i, (_, p, u) in enumerate(texts, 1)]
        listed = [{"ReferenceNumber": i, "Value": {"StringWithMarkup": [{"String": t}]}}
                  for i, (t, _, _) in enumerate(texts, 1)]
        inner = [{"TOCHeading": "Record Description", "Description": "Summary Information", "Information": listed}]
        sections = [{"TOCHeading": "Names and Identifiers", "Section": inner}] if listed else []
    elif heading in _PHARMACOLOGY.get(cid, {}):
        title, said = compounds()[cid]["title"], _PHARMACOLOGY[cid][heading]
        references = [{"ReferenceNumber": i, "SourceName": p, "SourceID": f"{p}:{cid}", "Name": title, "URL": f"https://example.org/{i}",
                       "ANID": 2000 + i, **_LICENCES[p]} for i, (_, p) in enumerate(said, 1)]
        listed = [{"ReferenceNumber": i, "Value": {"StringWithMarkup": [{"String": t}]}} for i, (t, _) in enumerate(said, 1)]
        inner = [{"TOCHeading": heading, "Description": "", "Information": listed}]
        sections = [{"TOCHeading": "Pharmacology and Biochemistry", "Section": inner}]
    elif heading == "Chemical-Target Interactions" and cid in TARGETS:
        title, quoted = compounds()[cid]["title"], ("DrugBank", "NCI Thesaurus (NCIt)")
        references = [{"ReferenceNumber": i, "SourceName": p, "SourceID": f"{p}:{cid}", "Name": title, "URL": f"https://example.org/t{i}",
                       "ANID": 3000 + i, **_LICENCES[p]} for i, p in enumerate(quoted, 1)]
        listed = [{"ReferenceNumber": i, "Value": {"ExternalTableName": "consolidatedcompoundtarget"}} for i in (1, 2)]
        inner = [{"TOCHeading": heading, "Description": "", "Information": listed}]
        sections = [{"TOCHeading": "Interactions and Pathways", "Section": inner}]
    else:
        return None
    if not sections:
        return None
    return {"Record": {"RecordType": "CID", "RecordNumber": cid, "RecordTitle": title, "Section": sections,
                       "Reference": references}}


def _prune(sections: list[dict[str, Any]], heading: str) -> list[dict[str, Any]]:
    kept = []
    for section in sections:
        if section["TOCHeading"] == heading:
            kept.append(section)
        elif inner := _prune(section.get("Section", []), heading):
            kept.append({k: v for k, v in section.items() if k != "Information"} | {"Section": inner})
    return kept


def _reference_numbers(sections: list[dict[str, Any]]) -> list[int]:
    return [info["ReferenceNumber"] for s in sections for info in s.get("Information", [])] + [
        number for s in sections for number in _reference_numbers(s.get("Section", []))]


def record(cid: int) -> dict[str, Any] | None:
    """A full record with what PubChemPy reads from it (atoms of the conformer or none, and the props)."""
    if cid not in compounds():
        return None
    known = compounds()[cid]
    count = max(1, int(known["heavy"]))

    def prop(label: str, name: str | None, kind: str, value: Any, method: str | None = None) -> dict[str, Any]:
        urn = {"label": label, "name": name, "implementation": method}
        return {"urn": {key: text for key, text in urn.items() if text}, "value": {kind: value}}

    props = [
        prop("SMILES", "Absolute", "sval", known["smiles"]), prop("SMILES", "Connectivity", "sval", known["smiles"]),
        prop("InChIKey", "Standard", "sval", known["inchikey"]), prop("Molecular Formula", None, "sval",
                                                                       known["formula"]),
        prop("Molecular Weight", None, "sval", known["mol_weight"]),
        prop("Weight", "MonoIsotopic", "sval", known["mono_mass"]), prop("Mass", "Exact", "sval", known["mono_mass"]),
        prop("IUPAC Name", "Preferred", "sval", known["iupac"]), prop("Log P", "XLogP3", "fval", float(known["xlogp"])),
        prop("Topological", "Polar Surface Area", "fval", float(known["tpsa"]), "E_TPSA"),
        prop("Count", "Hydrogen Bond Donor", "ival", int(known["hbd"]), "E_NHDONORS"),
        prop("Count", "Hydrogen Bond Acceptor", "ival", int(known["hba"]), "E_NHACCEPTORS"),
        prop("Count", "Rotatable Bond", "ival", int(known["rot"]), "E_NROTBONDS"),
        prop("Compound Complexity", None, "fval", float(known["heavy"]), "E_COMPLEXITY"),
    ]
    return {"PC_Compounds": [{
        "id": {"id": {"cid": cid}},
        "atoms": {"aid": list(range(1, count + 1)), "element": [6] * count},
        "coords": [{"type": [1, 5, 255], "aid": list(range(1, count + 1)),
                    "conformers": [{"x": [0.0] * count, "y": [0.0] * count}]}],
        "charge": int(known["charge"]), "props": props,
        "count": {"heavy_atom": int(known["heavy"]), "atom_chiral": int(known["stereo"]), "atom_chiral_def": 0,
                  "atom_chiral_undef": 0, "bond_chiral": 0, "bond_chiral_def": 0, "bond_chiral_undef": 0,
                  "isotope_atom": 0, "covalent_unit": int(known["units"]), "tautomers": -1},
    }]}


def sdf(cids: list[int]) -> str | None:
    found = [conformers()[cid] for cid in cids if cid in conformers()]
    return "".join(found) or None


def parent(cid: int) -> int | None:
    if cid not in compounds():
        return None
    known = compounds()[cid]
    if known["parent"]:
        return int(known["parent"])
    return cid if known["units"] == "1" else None


@lru_cache(maxsize=512)
def png(cid: int, size: int) -> bytes:
    """A real RGB picture that differs from compound to compound."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (size, size), (245, 245, 245))
    draw = ImageDraw.Draw(picture)
    points = [((cid * (7 + 13 * k)) % size, (cid * (3 + 11 * k)) % size) for k in range(6)]
    draw.line(points, fill=(zlib.crc32(str(cid).encode()) & 255, 0, 0), width=3)
    draw.text((10, 10), str(cid), fill=(0, 0, 0))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
