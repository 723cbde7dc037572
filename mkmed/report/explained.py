"""A recommendation for one patient as the page shows it: medications, why, and the molecule behind one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kb.errors import NotUnderstood
from kb.settings import Settings

if TYPE_CHECKING:
    from recsys.answers.explain import Explanation
    from recsys.answers.patient import Patient
    from recsys.answers.recommend import Coverage, RecommenderService

REASONS = 4


def explain_patient(settings: Settings, visit: Path, run: str = "") -> dict[str, Any]:
    """What a page shows of a recommendation; nothing is written.

    ``visit`` is a patient as ``mkmed recsys recommend --visit`` takes it; its ``about`` says in words who that is. Of
    the patient only that text, the codes among the reasons and those that are not understood are shown. Raises
    NotUnderstood where too little of the patient is understood.
    """
    from recsys.answers.explain import explain_with_fragments
    from recsys.answers.patient import read_patient
    from recsys.answers.recommend import UNDERSTANDING, RecommenderService
    from recsys.experiments.threads import one_thread

    patient, service = read_patient(visit), RecommenderService.open(settings, run)
    answer = service.recommend(patient)
    if answer.refused:
        raise NotUnderstood(answer.refused, hint=UNDERSTANDING)
    wanted = [item.code for item in answer.recommended]
    with one_thread():  # thousands of tiny tensors: threads would only wait for each other
        explained = {e.code: e for e in explain_with_fragments(service, patient, wanted, settings)}
    shown: dict[str, Any] = {
        "warning": answer.warning,
        "run": answer.run,
        "patient": sentence(patient, answer.coverage),
        "recommended": [{**item._asdict(), "reasons": reasons(explained[item.code])} for item in answer.recommended],
        "avoided": [item._asdict() for item in answer.avoided],
        "molecule": None,
        "molecule_caption": "",
    }
    drawn = next((d for d in (draw_fragment(service, explained[code]) for code in wanted) if d), None)
    if drawn:
        shown["molecule"], shown["molecule_caption"] = drawn
    return shown


def sentence(patient: Patient, coverage: Coverage) -> str:
    """The patient in one sentence, with how much is understood and the codes that have no influence."""
    text = (f"{patient.about or 'A patient.'} {len(patient.visits)} visits; medications are asked for the last one. "
            f"{coverage.understood} of {coverage.given} codes are understood.")
    strange = ", ".join(code for codes in coverage.not_understood.values() for code in codes)
    return text + (f" Without influence, because too few training patients had them: {strange}." if strange else "")


def reasons(explanation: Explanation) -> list[list[Any]]:
    """The strongest codes and modalities as (text, change of the logit)."""
    codes: list[list[Any]] = [[f"{item.shown} (visit {item.visit})", item.change] for item in explanation.codes]
    parts: list[list[Any]] = [[f"its {name}", change] for name, change in explanation.modalities.items() if change]
    strongest = sorted(codes, key=lambda r: -abs(r[1]))[:REASONS]
    return strongest + sorted(parts, key=lambda r: -abs(r[1]))[:2]


def draw_fragment(service: RecommenderService, explanation: Explanation) -> tuple[str, str] | None:
    """(SVG, caption) of the medication's smallest molecule with its strongest fragment marked; None without one."""
    from rdkit import Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    known = service.knowledge.smiles[service.vocabularies["medication"].index(explanation.code)]
    for fragment, share in explanation.fragments:
        pattern = Chem.MolFromSmarts(fragment)
        for smiles in sorted(known, key=len):
            molecule = Chem.MolFromSmiles(smiles)
            atoms = molecule.GetSubstructMatch(pattern) if molecule and pattern else ()
            if atoms and len(atoms) < molecule.GetNumAtoms():
                drawing = rdMolDraw2D.MolDraw2DSVG(420, 300)
                rdMolDraw2D.PrepareAndDrawMolecule(drawing, molecule, highlightAtoms=list(atoms))
                drawing.FinishDrawing()
                return str(drawing.GetDrawingText()), (
                    f"One of the {len(known)} molecules behind {explanation.code} {explanation.name}, with the "
                    f"fragment that counts most ({share:+.2f}).")
    return None
