"""Licences: each defined once, recognised in every spelling, closed where anything is unclear."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, Engine, text

from kb.db import migrate
from kb.errors import ConfigError
from kb.ingest.engine import register_source
from kb.ledger.licences import write_licences
from kb.licences import (
    BY,
    CC0,
    LICENCES,
    NCBI,
    OPEN_SHARES,
    UNSTATED,
    Licence,
    forbids,
    is_federal,
    most_restrictive,
    recognise_licence,
)
from kb.sources.corpus.source import CorpusSource
from kb.sources.drkg.source import Drkg

SPELLINGS = {
    "CC BY 4.0": "CC-BY-4.0",
    "CC-BY-4.0": "CC-BY-4.0",
    "CC\u2011BY 4.0": "CC-BY-4.0",
    "CC\u00a0BY\u00a04.0": "CC-BY-4.0",
    "cc by 4.0": "CC-BY-4.0",
    "CC_BY_4.0": "CC-BY-4.0",
    "CCBY 4.0": "CC-BY-4.0",
    "CC BY": "LicenseRef-CC-BY",
    "CC-BY license": "LicenseRef-CC-BY",
    "Creative Commons Attribution 4.0 International": "CC-BY-4.0",
    "Creative Commons Attribution 3.0 Unported License": "CC-BY-3.0",
    "https://creativecommons.org/licenses/by/4.0/": "CC-BY-4.0",
    "http://creativecommons.org/licenses/by/2.5/scotland": "CC-BY-2.5",
    "CC BY-SA 4.0": "CC-BY-SA-4.0",
    "CC BY SA 3.0": "CC-BY-SA-3.0",
    "Creative Commons Attribution-ShareALike 4.0 license": "CC-BY-SA-4.0",
    "creative commons share alike": "LicenseRef-CC-BY-SA",
    "CC BY NC 4.0": "CC-BY-NC-4.0",
    "CC BY-NC 4.0": "CC-BY-NC-4.0",
    "CC-BY NC": "LicenseRef-CC-BY-NC",
    "CC-BY-NC-4.0": "CC-BY-NC-4.0",
    "CC BY\u2011NC 4.0": "CC-BY-NC-4.0",
    "CC BY\u2013NC 4.0": "CC-BY-NC-4.0",
    "CC BY\u2212NC 4.0": "CC-BY-NC-4.0",
    "CC BY\u00adNC 4.0": "CC-BY-NC-4.0",
    "CC\u200b BY\u200b-\u200bNC 4.0": "CC-BY-NC-4.0",
    "\uff23\uff23 \uff22\uff39\uff0d\uff2e\uff23 4.0": "CC-BY-NC-4.0",
    "CC BY, NC, 4.0": "CC-BY-NC-4.0",
    "CC-BY/NC 4.0": "CC-BY-NC-4.0",
    "CC BYNC 4.0": "CC-BY-NC-4.0",
    "ccbync4.0": "CC-BY-NC-4.0",
    "CC BY (NC) 4.0": "CC-BY-NC-4.0",
    "cc by nc sa 4.0": "CC-BY-NC-SA-4.0",
    "CC BY-NC-ND 4.0": "CC-BY-NC-ND-4.0",
    "CC-BY-ND-4.0": "CC-BY-ND-4.0",
    "CC BY ND 3.0": "CC-BY-ND-3.0",
    "Creative Common's Attribution-NonCommercial 4.0 (http://creativecommons.org/licenses/by-nc/4.0/x)": "CC-BY-NC-4.0",
    "Creative Commons Attribution Non Commercial 4.0": "CC-BY-NC-4.0",
    "Creative Commons Attribution-Noncommercial-No Derivative Works 3.0": "CC-BY-NC-ND-3.0",
    "Creative Commons Attribution, not for commercial use": "LicenseRef-CC-BY-NC",
    "CC BY 4.0 for some parts, CC BY-NC 4.0 for others": "CC-BY-NC-4.0",
    "MIT or CC BY-NC 4.0": "CC-BY-NC-4.0",
    "CC0": "CC0-1.0",
    "CC0 1.0 Universal": "CC0-1.0",
    "CC-0": "CC0-1.0",
    "CC Zero": "CC0-1.0",
    "Creative Commons Zero v1.0": "CC0-1.0",
    "https://creativecommons.org/publicdomain/zero/1.0/": "CC0-1.0",
    "https://creativecommons.org/publicdomain/mark/1.0/": "CC-PDM-1.0",
    "Public Domain": "LicenseRef-public-domain",
    "public\u00a0domain": "LicenseRef-public-domain",
    "ODbL": "ODbL-1.0",
    "ODbL-1.0": "ODbL-1.0",
    "Open Database License (ODbL) v1.0": "ODbL-1.0",
    "ODC-BY": "ODC-By-1.0",
    "PDDL 1.0": "PDDL-1.0",
    "MIT": "MIT",
    "The MIT License": "MIT",
    "https://opensource.org/licenses/MIT": "MIT",
    "Apache 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "BSD-3-Clause": "BSD-3-Clause",
    "GPLv3": "GPL-3.0-only",
    "GNU General Public License v2": "GPL-2.0-only",
    "Open Government Licence v3.0": "OGL-UK-3.0",
    "Work of the United States Government": "LicenseRef-US-Government",
}
"""Spelling → id."""

NOT_OPEN = (
    None, "", " ", "free", "open", "open access", "Creative Commons", "CC", "cc", "by", "BY", "BY 4.0", "4.0", "license",
    "cc by the author", "© 2024 the authors", "All rights reserved", "see website", "n/a", "unknown", "none", "CC BY 9.9",
    "Not in the public domain", "This is not CC BY 4.0", "no longer CC BY 4.0", "not licensed under CC BY 4.0",
    "CC BY 4.0 with permission of the publisher", "CC BY 4.0, academic use only", "MIT, non-commercial",
    "CC0 except for commercial use", "CC BY 4.0; redistribution prohibited", "public domain for personal use only",
    "MIT Press", "published by MIT", "Massachusetts Institute of Technology", "the Apache tribe", "BSD", "GPL", "odbl 7",
    "\u0421\u0421 \u0412\u0423 4.0", "https://example.org/by/4.0/", "https://creativecommons.org/", "NC", "Non-Commercial",
    "research use only", "CC BY NC", "CC-BY-ND 4.0", "creativecommons.org/licenses/by-nd/4.0", "Elsevier user license",
    "https://creativecommons.org.evil.example/terms", "https://example.org/creativecommons.org/licenses/by/4.0/",
    "CC BY N C", "CC BY N.D. 4.0", "CC BY 4.0, nicht kommerziell", "CC BY 4.0 sin fines comerciales", "CC BY, niet-commercieel",
    "CC BY 4.0 (użytek niekomercyjny)", "CC BY 4.0 некоммерческое", "CC BY 4.0 非営利", "CC BY 4.0 à but non lucratif",
    "https://creativecommons.org/licenses/by%2Dnc/4.0/", "xCC0x", "CC00", "PCC BY 4", "http://[", "\x00CC\x00",
)


@pytest.mark.parametrize(("said", "licence"), SPELLINGS.items())
def test_spellings(said: str, licence: str) -> None:
    found = recognise_licence(said)
    assert found is not None and found.id == licence


@pytest.mark.parametrize("said", NOT_OPEN)
def test_anything_unclear_is_closed(said: str | None) -> None:
    found = recognise_licence(said)
    assert found is None or not found.is_open, found


def test_parts_count_together() -> None:
    found = recognise_licence("CC BY 4.0", "https://creativecommons.org/licenses/by-nc/4.0/")
    assert found is not None and found.id == "CC-BY-NC-4.0"


def test_every_licence_is_defined_once_and_closed_where_it_forbids() -> None:
    for licence in LICENCES.values():
        assert licence.is_open == (licence.share in OPEN_SHARES)
        if {"NC", "ND"} & set(licence.id.split("-")):
            assert not licence.is_open, licence
    assert not LICENCES["LicenseRef-user"].is_open and not UNSTATED.is_open


def test_what_quotes_several_is_as_closed_as_the_most_closed() -> None:
    assert most_restrictive([CC0, BY, NCBI]) is BY
    assert most_restrictive([LICENCES["CC-BY-NC-4.0"], CC0, UNSTATED]) is UNSTATED
    with pytest.raises(ValueError, match="empty"):
        most_restrictive([])


@pytest.mark.parametrize(("url", "federal"), [
    ("https://www.nlm.nih.gov/copyright.html", True), ("https://fda.gov/x", True), ("https://ny.gov/x", False),
    ("https://www.nj.gov/nj/legal.html", False), ("https://www.cdph.ca.gov/x", False), ("https://mass.gov", False),
    ("https://nih.gov.evil.example/", False), ("https://evilnih.gov/", False), ("http://[", False), (None, False),
    ("ftp://nih.gov/", False), ("https://evil.example/#.nih.gov", False), ("https://user@nih.gov/", True),
])
def test_federal_hosts(url: str | None, federal: bool) -> None:
    assert is_federal(url) is federal


def test_speaking_against_use() -> None:
    assert forbids("Copyright Wiley. All rights reserved") and not forbids("in the public domain") and not forbids(None)


def test_a_correction_reaches_an_existing_database(fresh_database: Engine) -> None:
    with fresh_database.begin() as connection:
        connection.execute(text(
            "INSERT INTO licence (id, title, share) VALUES ('LicenseRef-DGIdb', 'as it was', 'attribution'),"
            " ('LicenseRef-mine', 'somebody''s own', 'open')"))
    assert migrate.upgrade(fresh_database) == ["1 licences changed to what this version knows of them"]
    assert migrate.upgrade(fresh_database) == []
    with fresh_database.begin() as connection:
        assert _shares(connection) == {"LicenseRef-DGIdb": "unknown", "LicenseRef-mine": "open"}
        connection.execute(text("UPDATE licence SET share = 'open' WHERE id = 'LicenseRef-DGIdb'"))
        write_licences(connection, [CC0])
        assert _shares(connection)["LicenseRef-DGIdb"] == "unknown"


@pytest.mark.parametrize("order", [1, -1])
def test_whichever_source_comes_first_the_licence_is_the_same(fresh_database: Engine, order: int) -> None:
    with fresh_database.begin() as connection:
        for described in [CorpusSource(), Drkg()][::order]:
            register_source(connection, described)
        assert _shares(connection)["LicenseRef-DGIdb"] == "unknown"


def test_a_plug_in_cannot_open_what_is_closed(fresh_database: Engine) -> None:
    with fresh_database.begin() as connection, pytest.raises(ConfigError, match="LicenseRef-user"):
        write_licences(connection, [Licence("LicenseRef-user", "mine", "open")])


def _shares(connection: Connection) -> dict[str, str]:
    return {row.id: row.share for row in connection.execute(text("SELECT id, share FROM licence"))}
