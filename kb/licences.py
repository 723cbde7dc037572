"""Every licence that mkmed knows, each once, and the recognition of a licence in what a provider writes.

``share`` decides what may be done with a row: ``open``, ``attribution`` and ``share-alike`` may be passed on and used
commercially; ``non-commercial``, ``restricted`` and ``unknown`` may not, and whatever is not recognised is ``unknown``.
A licence that forbids derivatives is ``restricted``: an export is an adaptation of what it was made from.
The database holds a copy (``mkmed.licence``), which every ingest and ``db upgrade`` bring up to date.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

SHARES = ("open", "attribution", "share-alike", "non-commercial", "restricted", "unknown")
"""What may be done with a work, from the freest to the most restrictive."""
OPEN_SHARES = SHARES[:3]


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence; ``id`` is the SPDX identifier where there is one, ``share`` one of ``SHARES``."""

    id: str
    title: str
    share: str
    url: str | None = None
    attribution: str = ""

    def __post_init__(self) -> None:
        if self.share not in SHARES:
            raise ValueError(f"{self.id}: {self.share!r} is not one of {SHARES}")

    @property
    def is_open(self) -> bool:
        """Whether what is under it may be passed on and used commercially."""
        return self.share in OPEN_SHARES


PROVIDER = "the provider named in the row"
VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
ELEMENTS = {
    "BY": ("Attribution", "attribution"),
    "BY-SA": ("Attribution Share Alike", "share-alike"),
    "BY-ND": ("Attribution No Derivatives", "restricted"),
    "BY-NC": ("Attribution Non Commercial", "non-commercial"),
    "BY-NC-SA": ("Attribution Non Commercial Share Alike", "non-commercial"),
    "BY-NC-ND": ("Attribution Non Commercial No Derivatives", "non-commercial"),
}
"""Creative Commons' licences by their elements: the name and the share."""


def _creative_commons() -> list[Licence]:
    """The six licences in their five versions, and in none where a text does not state it."""
    found = []
    for elements, (name, share) in ELEMENTS.items():
        page = f"https://creativecommons.org/licenses/{elements.lower()}/"
        found += [
            Licence(f"CC-{elements}-{v}", f"Creative Commons {name} {v}", share, f"{page}{v}/", PROVIDER)
            for v in VERSIONS
        ]
        found.append(Licence(f"LicenseRef-CC-{elements}", f"Creative Commons {name}, no version stated", share,
                             "https://creativecommons.org/licenses/", PROVIDER))
    return found


_DRKG = "https://github.com/gnn4dr/DRKG"
_SPDX = "https://spdx.org/licenses/{}.html"
_KNOWN = (
    *_creative_commons(),
    Licence("CC0-1.0", "Creative Commons Zero 1.0", "open", "https://creativecommons.org/publicdomain/zero/1.0/"),
    Licence("CC-PDM-1.0", "Public Domain Mark 1.0", "open", "https://creativecommons.org/publicdomain/mark/1.0/"),
    *(
        Licence(spdx, title, share, _SPDX.format(spdx))
        for spdx, title, share in (
            ("ODbL-1.0", "Open Database License 1.0", "share-alike"),
            ("ODC-By-1.0", "Open Data Commons Attribution License 1.0", "attribution"),
            ("PDDL-1.0", "Open Data Commons Public Domain Dedication and License 1.0", "open"),
            ("OGL-UK-3.0", "Open Government Licence (United Kingdom) 3.0", "attribution"),
            ("MIT", "MIT License", "attribution"),
            ("Apache-2.0", "Apache License 2.0", "attribution"),
            ("BSD-2-Clause", "BSD 2-Clause License", "attribution"),
            ("BSD-3-Clause", "BSD 3-Clause License", "attribution"),
            ("ISC", "ISC License", "attribution"),
            ("Unlicense", "The Unlicense", "open"),
            ("MPL-2.0", "Mozilla Public License 2.0", "share-alike"),
            ("GPL-2.0-only", "GNU General Public License 2.0", "share-alike"),
            ("GPL-3.0-only", "GNU General Public License 3.0", "share-alike"),
            ("LGPL-3.0-only", "GNU Lesser General Public License 3.0", "share-alike"),
            ("AGPL-3.0-only", "GNU Affero General Public License 3.0", "share-alike"),
        )
    ),
    Licence("LicenseRef-public-domain", "Said to be in the public domain", "open", None, PROVIDER),
    Licence("LicenseRef-NCBI", "NCBI: no restrictions on use or distribution", "open",
            "https://www.ncbi.nlm.nih.gov/home/about/policies/", "PubChem, National Library of Medicine (US)"),
    Licence("LicenseRef-US-Government", "Work of the United States government", "open",
            "https://www.usa.gov/government-copyright", "the agency named as provider"),
    Licence("LicenseRef-WordNet-3.0", "WordNet 3.0 licence", "attribution",
            "https://wordnet.princeton.edu/license-and-commercial-use", "WordNet 3.0, Princeton University"),
    Licence("LicenseRef-provider-terms", "The provider's own terms, which the row's document states", "restricted",
            None, PROVIDER),
    Licence("LicenseRef-unstated", "No licence is stated", "unknown", None, PROVIDER),
    Licence("LicenseRef-user", "The user's own data, no licence stated", "unknown", None, "the user"),
    Licence("LicenseRef-DRKG", "DRKG as a whole: by relation, mostly non-commercial", "non-commercial", _DRKG),
    Licence("LicenseRef-DRKG-bibliography", "DRKG bibliography: non-commercial use", "non-commercial", _DRKG),
    Licence("LicenseRef-DRKG-unknown", "Not one of DRKG's relations: licence not known", "unknown", _DRKG),
    Licence("LicenseRef-Hetionet", "Hetionet within DRKG: mixed, by upstream source", "unknown", "https://het.io/"),
    Licence("LicenseRef-PrimeKG", "PrimeKG: mixed, by upstream source", "unknown",
            "https://github.com/mims-harvard/PrimeKG"),
    Licence("LicenseRef-DrugBank", "DrugBank: the user's own licence, not to be passed on", "restricted",
            "https://go.drugbank.com/legal/terms_of_use"),
    # DGIdb passes on what its sources give, each under terms of its own, which the edges do not say.
    Licence("LicenseRef-DGIdb", "DGIdb: mixed, by upstream source", "unknown", "https://www.dgidb.org/downloads",
            "DGIdb, Washington University"),
)
LICENCES: Mapping[str, Licence] = {licence.id: licence for licence in _KNOWN}
"""All of them by id."""
if len(LICENCES) != len(_KNOWN):
    raise ValueError("a licence is defined twice")

CC0 = LICENCES["CC0-1.0"]
BY = LICENCES["CC-BY-4.0"]
BY_SA = LICENCES["CC-BY-SA-4.0"]
BY_NC = LICENCES["CC-BY-NC-4.0"]
NCBI = LICENCES["LicenseRef-NCBI"]
US_GOVERNMENT = LICENCES["LicenseRef-US-Government"]
PROVIDER_TERMS = LICENCES["LicenseRef-provider-terms"]
UNSTATED = LICENCES["LicenseRef-unstated"]
USER = LICENCES["LicenseRef-user"]


def most_restrictive(licences: Iterable[Licence]) -> Licence:
    """The licence that something which quotes works under all of these may be used under at most.

    Raises ValueError when there is none.
    """
    return max(licences, key=lambda licence: (SHARES.index(licence.share), licence.id))


_DASHES = re.compile(r"[\u2010-\u2015\u2212\u2043\ufe58\ufe63\uff0d]")
_ELSEWHERE = re.compile(r"https?://(?!(?:[\w-]+\.)*creativecommons\.org\b)\S*creativecommons\S*", re.IGNORECASE)
"""An address that has Creative Commons' name in it and is not theirs."""
_CC_ELEMENTS = r"by|nc|nd|sa"
_CC_WORD = re.compile(rf"cc(?P<zero>0|zero)?(?P<elements>(?:{_CC_ELEMENTS})*)(?:v?[1-9][\d.]*)?")
_FOLLOWS_BY = re.compile(r"$|[^\w\s]|\s*(?:v(?:ersion)?\.?\s*)?\d|\s*(?:licen[cs]e|international|unported|igo|deed)",
                         re.IGNORECASE)
_ZERO = re.compile(r"publicdomain/zero|\bcc[\s_-]?(?:0|zero)\b|creative\s?commons[\s_-]+(?:zero|0\b)", re.IGNORECASE)
_VERSION = re.compile(r"(?<![\d.])v?([1-4](?:\.[05])?)(?![\d.]*\d)")
_NOT = re.compile(
    r"\b(?:not|never|no longer|isn't|aren't|neither|nor|without|cannot|other than)\b"
    r"(?:\W+\w+){0,6}\W+(?:public domain|cc|creative commons|licen[cs]e|mit|apache|bsd|odbl|open)", re.IGNORECASE)
_COMMERCE = r"[ck]omm?er[czs][iy]|некоммер|非商|非営利|lucrati[fv]"
"""Speaking of commerce in any of a dozen languages; no open licence does in its name."""
_CLOSED_WORDS = re.compile(
    r"all rights reserved|\bpermission|\bpropriet|\bconfidential|\bprohibit|\bforbid|\brestrict(?!ions on)"
    r"|(?:academic|research|personal|educational|private|internal|evaluation)(?:\W+\w+){0,3}\W+only|\bonly for\b"
    rf"|{_COMMERCE}"
    r"|\bsubscri|\bno redistribution|\bdo(?:es)? not redistribute|\bmay not\b|\bmust not\b|©|\bcopyrighted\b",
    re.IGNORECASE)
_NAMED: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (spdx, re.compile(pattern, re.IGNORECASE))
    for spdx, pattern in (
        ("ODbL-1.0", r"\bodbl\b(?![\s-]*(?:v?[02-9]))|open database licen[cs]e|opendatacommons\.org/licenses/odbl"),
        ("ODC-By-1.0", r"\bodc-by\b|open data commons attribution licen[cs]e|opendatacommons\.org/licenses/by\b"),
        ("PDDL-1.0", r"\bpddl\b|public domain dedication and licen[cs]e|opendatacommons\.org/licenses/pddl"),
        ("OGL-UK-3.0", r"\bogl-uk-3\.0\b|open government licen[cs]e[\s,(]*(?:v|version)?\s*3|"
                       r"nationalarchives\.gov\.uk/doc/open-government-licence/version/3"),
        ("Apache-2.0", r"\bapache(?:[\s-]+(?:software[\s-]+)?licen[cs]e)?[\s,-]*(?:v|version)?[\s.]*2(?:\.0)?\b"
                       r"|apache\.org/licenses/license-2\.0"),
        ("MIT", r"^\W*(?:the\s+)?mit(?:\s+licen[cs]e)?\W*$|\bmit\s+licen[cs]e|opensource\.org/licen[cs]es?/mit\b"),
        ("BSD-2-Clause", r"\bbsd[\s-]*2[\s-]*clause|\b(?:simplified|2[\s-]clause)\s+bsd"),
        ("BSD-3-Clause", r"\bbsd[\s-]*3[\s-]*clause|\b(?:new|revised|3[\s-]clause)\s+bsd"),
        ("ISC", r"^\W*isc(?:\s+licen[cs]e)?\W*$|\bisc\s+licen[cs]e"),
        ("Unlicense", r"\bunlicense\b"),
        ("MPL-2.0", r"\bmpl[\s-]*(?:v|version)?\s*2|mozilla public licen[cs]e[\s,-]*(?:v|version)?\s*2"),
        ("AGPL-3.0-only", r"\bagpl[\s-]*v?3|affero general public licen[cs]e[\s,-]*(?:v|version)?\s*3"),
        ("LGPL-3.0-only", r"\blgpl[\s-]*v?3|lesser general public licen[cs]e[\s,-]*(?:v|version)?\s*3"),
        ("GPL-3.0-only", r"\bgpl[\s-]*v?3|(?<!lesser )(?<!affero )general public licen[cs]e[\s,-]*(?:v|version)?\s*3"),
        ("GPL-2.0-only", r"\bgpl[\s-]*v?2|(?<!lesser )general public licen[cs]e[\s,-]*(?:v|version)?\s*2"),
        ("LicenseRef-US-Government", r"\b(?:works?|publications?) of the (?:u\.?\s?s\.?|united states)"
                                     r"(?: federal)? government\b|\bus government works?\b"
                                     r"|usa\.gov/government-(?:copyright|works)"),
    )
)


def recognise_licence(*said: str | None) -> Licence | None:
    """The licence that a note, a URL or both state, the most restrictive where they state several; None where none.

    Unicode spellings are unified first. Anything that speaks against use (a negation, "permission", "commercial", …)
    makes it ``LicenseRef-provider-terms``, whatever else is stated.
    """
    text = _unified(" | ".join(part for part in said if part))
    if not text.strip():
        return None
    found = [*_creative(text), *(LICENCES[spdx] for spdx, pattern in _NAMED if pattern.search(text))]
    if not found and re.search(r"\bpublic domain\b", text, re.IGNORECASE):
        found = [LICENCES["LicenseRef-public-domain"]]
    stated = most_restrictive(found) if found else None
    if stated is None or not stated.is_open:
        return stated
    return PROVIDER_TERMS if _NOT.search(text) or _CLOSED_WORDS.search(text) else stated


def _unified(text: str) -> str:
    """Compatibility characters, dashes and blanks in their plain form; invisible characters gone."""
    plain = _DASHES.sub("-", unicodedata.normalize("NFKC", unquote(text).replace("\u00ad", "-")))
    visible = "".join(" " if c.isspace() else c for c in plain if unicodedata.category(c) not in ("Cf", "Mn", "Cc")
                      or c.isspace())
    return re.sub(r"\s+", " ", visible)


def _creative(text: str) -> list[Licence]:
    """The Creative Commons licences that a text states; elements count wherever they stand in it."""
    text = _ELSEWHERE.sub(" ", text)
    words = [word for word in re.split(r"[^a-z0-9.]+", text.lower()) if word]
    short = [match for word in words if (match := _CC_WORD.fullmatch(word.strip(".")))]
    named = re.search(r"creative\s?commons", text, re.IGNORECASE)
    if not short and not named:
        return []
    if _ZERO.search(text):
        zero = [CC0]
    elif re.search(r"publicdomain/mark|public domain mark", text, re.IGNORECASE):
        zero = [LICENCES["CC-PDM-1.0"]]
    else:
        zero = [CC0] if any(match["zero"] for match in short) else []
    elements = {"by"} if _states_by(text) else set()
    joined = {part for word in words for part in re.findall(_CC_ELEMENTS, word)
              if re.fullmatch(rf"(?:cc)?(?:{_CC_ELEMENTS})+(?:v?[\d.]+)?", word)}
    elements |= joined - {"by"}
    for element, spelled in (("nc", rf"{_COMMERCE}|\bn\W+c\b"), ("nd", r"no\W?deriv|non\W?deriv|\bn\W+d\b"),
                             ("sa", r"share\W?alike|\bs\W+a\b")):
        if re.search(spelled, text, re.IGNORECASE):
            elements.add(element)
    if elements - {"by"}:
        elements.add("by")
    if not elements:
        return zero
    name = "BY" + ("-NC" if "nc" in elements else "") + ("-ND" if "nd" in elements else
                                                         "-SA" if "sa" in elements else "")
    return [*zero, _versioned(name, text)]


def _states_by(text: str) -> bool:
    """Whether a text states the element Attribution, and does not merely have the word "by" behind "cc"."""
    if re.search(r"licenses/by\b|\battribution", text, re.IGNORECASE):
        return True
    for match in re.finditer(r"\bcc(?P<join>[\s_-]*)by", text, re.IGNORECASE):
        if match.group().endswith("BY") or match["join"] in ("-", "_", "") or _FOLLOWS_BY.match(text, match.end()):
            return True
    return False


def _versioned(elements: str, text: str) -> Licence:
    """The licence in the version that the text states; UNSTATED for one that does not exist."""
    stated = {version if "." in version else f"{version}.0" for version in _VERSION.findall(text)}
    known = [LICENCES[f"CC-{elements}-{version}"] for version in sorted(stated) if version in VERSIONS]
    if known:
        return known[-1]
    odd = re.search(r"\bcc[\s_-]*by[\w\s-]*?[\s-]v?\d", text, re.IGNORECASE)
    return UNSTATED if odd else LICENCES[f"LicenseRef-CC-{elements}"]


FEDERAL = ("nih.gov", "fda.gov", "cdc.gov", "epa.gov", "hhs.gov", "usda.gov", "osha.gov", "dol.gov", "noaa.gov",
           "nist.gov", "cancer.gov", "medlineplus.gov", "ahrq.gov", "dea.gov", "usgs.gov", "va.gov", "usa.gov")
"""Hosts of the federal government; states and cities of the United States, under .gov too, have terms of their own."""


def is_federal(url: str | None) -> bool:
    """Whether a URL is of an agency whose own works are free in law (17 U.S.C. § 105)."""
    try:
        parts = urlsplit(url or "")
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and any(host == h or host.endswith(f".{h}") for h in FEDERAL)


def forbids(text: str | None) -> bool:
    """Whether a text speaks against use."""
    unified = _unified(text or "")
    return bool(_NOT.search(unified) or _CLOSED_WORDS.search(unified))
