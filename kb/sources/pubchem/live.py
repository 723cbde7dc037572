"""A check of the parser against the service itself: eleven questions whose answers are known, and what is made of them.

Nothing is written. What fails says which answer has another shape, or another content, than the parser believes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kb.errors import MkmedError
from kb.http.client import Transport, policy_for
from kb.sources.pubchem.ask import Asker, Reply
from kb.sources.pubchem.parse import TAGS, Structure

if TYPE_CHECKING:
    from kb.http.pace import Policy
    from kb.settings import Settings

ASPIRIN = 2244
ASPIRIN_KEY = "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"
ASPIRIN_SMILES = "CC(=O)Oc1ccccc1C(=O)O"
METFORMIN, HYDROCHLORIDE = 4091, 14219
UNKNOWN = "a name that nobody gave a compound"


def check_live(settings: Settings, *, policy: Policy | None = None) -> list[dict[str, Any]]:
    """One row a request: what was asked, whether the answer is as believed, and what was found instead."""
    rows = []
    with Transport(settings.pubchem_url, settings, policy=policy or policy_for(settings.pubchem_url, settings)) as wire:
        for asked, question in _questions(Asker(wire)):
            try:
                said = question()
                rows.append({"asked": asked, "holds": said == "", "found": said or "as believed"})
            except MkmedError as error:
                rows.append({"asked": asked, "holds": False, "found": error.message})
    return rows


def _questions(ask: Asker) -> list[tuple[str, Callable[[], str]]]:
    return [
        ("CIDs of a name", lambda: _is_in(ASPIRIN, ask.find("name", "aspirin"))),
        ("CIDs of an InChIKey", lambda: _is_in(ASPIRIN, ask.find("inchikey", ASPIRIN_KEY))),
        ("no CID of an unknown name", lambda: _absent(ask.find("name", UNKNOWN))),
        ("properties of two CIDs", lambda: _both(ask.properties([ASPIRIN, METFORMIN], TAGS).found())),
        ("the full record", lambda: _of(ask.record(ASPIRIN), ASPIRIN)),
        ("synonyms", lambda: _aspirin(ask.lists([ASPIRIN], "synonyms", "Synonym").found())),
        ("the picture", lambda: _present(ask.image(ASPIRIN))),
        ("descriptions with their sources", lambda: _present(ask.view(ASPIRIN))),
        ("targets with their sources", lambda: _present(ask.quoted(ASPIRIN)) or _present(ask.targets(ASPIRIN))),
        ("the 3D conformer", lambda: "" if ASPIRIN in ask.conformers({ASPIRIN: Structure(ASPIRIN_SMILES)}).found()
         else "no conformer"),
        ("the parent of a salt", lambda: _is_in(METFORMIN, ask.parent(HYDROCHLORIDE))),
    ]


def _present(reply: Reply) -> str:
    return "" if reply.present else f"absent: {reply.evidence}"


def _absent(reply: Reply) -> str:
    return "" if not reply.present else f"present: {reply.value!r:.80}"


def _is_in(cid: int, reply: Reply) -> str:
    return _present(reply) or ("" if cid in reply.value else f"{reply.value!r:.80}")


def _of(reply: Reply, cid: int) -> str:
    return _present(reply) or ("" if cid in reply.value.values else "another compound")


def _both(found: dict[int, Any]) -> str:
    missing = {ASPIRIN, METFORMIN} - found.keys()
    if missing:
        return f"nothing of {sorted(missing)}"
    key = found[ASPIRIN][0].inchikey
    return "" if key == ASPIRIN_KEY else f"InChIKey {key}"


def _aspirin(found: dict[int, Any]) -> str:
    names = found[ASPIRIN][0] if ASPIRIN in found else ()
    return "" if "aspirin" in {name.lower() for name in names} else f"{names!r:.80}"
