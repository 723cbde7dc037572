"""What PubChem says it cannot have: its conditions for a 3D conformer, and the licences that its texts carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from kb.ingest.records import Licence

MAX_HEAVY_ATOMS = 50
MAX_ROTATABLE_BONDS = 15
ELEMENTS = frozenset({"H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I"})
_SYMBOL = re.compile(r"[A-Z][a-z]?")


def three_d_rule(values: Mapping[str, float], formula: str) -> str | None:
    """The id of the rule by which PubChem has no 3D conformer of a compound, or None when it may have one.

    Salts are not decided here: their parent may have one. Source: https://pubchem.ncbi.nlm.nih.gov/release3d.html
    """
    if values.get("heavy_atoms", 0) > MAX_HEAVY_ATOMS:
        return f"rule:pubchem3d:heavy-atoms>{MAX_HEAVY_ATOMS}"
    if values.get("rotatable_bonds", 0) > MAX_ROTATABLE_BONDS:
        return f"rule:pubchem3d:rotatable-bonds>{MAX_ROTATABLE_BONDS}"
    others = sorted(set(_SYMBOL.findall(formula)) - ELEMENTS - {"D", "T"})
    return f"rule:pubchem3d:element:{others[0]}" if others else None


NO_PARENT = "rule:pubchem3d:multi-fragment-without-parent"
"""The rule for a mixture: several covalent units and no parent compound."""

PUBCHEM = Licence("LicenseRef-NCBI", "NCBI: no restrictions on use or distribution", "open",
                  "https://www.ncbi.nlm.nih.gov/home/about/policies/", "PubChem, National Library of Medicine (US)")
US_GOVERNMENT = Licence("LicenseRef-US-Government", "Work of the United States government", "open",
                        "https://www.usa.gov/government-copyright", "the agency named as provider")
BY = Licence("CC-BY-4.0", "Creative Commons Attribution 4.0", "attribution",
             "https://creativecommons.org/licenses/by/4.0/", "the provider named in the row")
BY_SA = Licence("CC-BY-SA-4.0", "Creative Commons Attribution Share Alike 4.0", "share-alike",
                "https://creativecommons.org/licenses/by-sa/4.0/", "the provider named in the row")
BY_SA_3 = Licence("CC-BY-SA-3.0", "Creative Commons Attribution Share Alike 3.0", "share-alike",
                  "https://creativecommons.org/licenses/by-sa/3.0/", "the provider named in the row")
BY_NC = Licence("CC-BY-NC-4.0", "Creative Commons Attribution Non Commercial 4.0", "non-commercial",
                "https://creativecommons.org/licenses/by-nc/4.0/", "the provider named in the row")
BY_NC_ND = Licence("CC-BY-NC-ND-4.0", "Creative Commons Attribution Non Commercial No Derivatives 4.0",
                   "non-commercial", "https://creativecommons.org/licenses/by-nc-nd/4.0/",
                   "the provider named in the row")
CC0 = Licence("CC0-1.0", "Creative Commons Zero", "open", "https://creativecommons.org/publicdomain/zero/1.0/")
RESTRICTED = Licence("LicenseRef-provider-terms", "The provider's own terms, which the row's document states",
                     "restricted", None, "the provider named in the row")
UNSTATED = Licence("LicenseRef-unstated", "No licence is stated", "unknown", None, "the provider named in the row")

LICENCES: tuple[Licence, ...] = (
    PUBCHEM, US_GOVERNMENT, BY, BY_SA, BY_SA_3, BY_NC, BY_NC_ND, CC0, RESTRICTED, UNSTATED,
)

_CREATIVE = {
    "by": BY, "by-sa": BY_SA, "by-nc": BY_NC, "by-nc-nd": BY_NC_ND, "zero": CC0, "cc0": CC0, "cczero": CC0,
}
_CREATIVE_TEXT = re.compile(
    r"creativecommons\.org/(?:licenses|publicdomain)/(by(?:-nc)?(?:-nd|-sa)?|zero)(?:/(3|4))?"
    r"|\bCC[ -]?(BY(?:-NC)?(?:-ND|-SA)?|0|Zero)\b", re.IGNORECASE,
)
_BY_PROVIDER = {"ChEBI": BY, "LOTUS - the natural products occurrence database": CC0}
"""Providers whose licence is public (their own sites), but which PubChem's references leave out."""


def licence_of(provider: str, note: str | None, url: str | None) -> Licence:
    """The licence of a text by what its PUG View reference says; anything unclear is restricted or unstated."""
    match = _CREATIVE_TEXT.search(f"{note or ''} {url or ''}")
    if match:
        name = (match.group(1) or match.group(3)).lower()
        name = {"0": "cc0"}.get(name, name)
        if name == "by-sa" and match.group(2) == "3":
            return BY_SA_3
        return _CREATIVE.get(name, RESTRICTED)
    host = urlsplit(url or "").hostname or ""
    if host.endswith(".gov"):
        federal = not re.search(r"\.(ca|[a-z]{2})\.gov$", host) and host not in ("www.nj.gov", "nj.gov")
        return US_GOVERNMENT if federal else RESTRICTED
    if provider in _BY_PROVIDER:
        return _BY_PROVIDER[provider]
    if provider == "PubChem":
        return PUBCHEM
    return RESTRICTED if note or url else UNSTATED
