"""A recipe makes the same knowledge base each time, and says what is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Engine

from kb.errors import ContractViolation, UsageError
from kb.ingest.engine import ingest
from kb.inputs import sha256_of
from kb.recipe import as_markdown, follow_recipe, read_recipe, recipe_json
from kb.settings import Settings
from tests.kb import published


def write(folder: Path, *, digest: str | None = None) -> Path:
    base = published.write_chembl(folder / "chembl_36.db")
    published.write_text(folder / "kg.csv", published.PRIMEKG)
    return published.write_text(folder / "recipe.toml", f"""
name = "gout"
[[source]]
name = "chembl"
path = "chembl_36.db"
sha256 = "{digest or sha256_of(base).hex()}"
[[source]]
name = "rdkit"
modalities = ["property"]
[[source]]
name = "primekg"
path = "kg.csv"
""")


def test_twice_is_the_same_release_and_the_card_says_what_is_there(
    fresh_database: Engine, another_database: Engine, tmp_path: Path
) -> None:
    recipe = read_recipe(write(tmp_path))
    cards = [follow_recipe(engine, Settings(workers=1), recipe, ingest) for engine in (fresh_database, another_database)]
    assert cards[0]["release"] == cards[1]["release"]
    assert follow_recipe(fresh_database, Settings(workers=1), recipe, ingest)["release"] == cards[0]["release"]
    first = json.loads(recipe_json(cards[0]))
    assert first["drugs"] == 6 and first["coverage"]["property"] == 5
    chembl = next(row for row in first["sources"] if row["name"] == "chembl")
    assert (chembl["drugs"], chembl["version"], chembl["licence"]) == (6, "ChEMBL_36", "CC-BY-SA-3.0")
    assert {row["licence"]: row["open"] for row in first["licences"]}["LicenseRef-PrimeKG"] is False
    page = as_markdown(cards[0])
    assert f"Release `{first['release']}`: 6 drugs." in page and "| chembl | ChEMBL |" in page


def test_a_file_of_another_version_is_refused_before_anything_is_read(fresh_database: Engine, tmp_path: Path) -> None:
    recipe = read_recipe(write(tmp_path, digest="0" * 64))
    with pytest.raises(ContractViolation, match="not the file of the recipe"):
        follow_recipe(fresh_database, Settings(), recipe, ingest)


@pytest.mark.parametrize(("written", "said"), [
    ("name = 1\n[[source]]\nname = 'corpus'", "name is not a text"), ("", "names no source"), ("[[source]]\nlimit = 3", "has no name"),
    ("[[source]]\nname = 'corpus'\nlimt = 3", "there is no 'limt'"), ("[[source]]\nname = 'corpus'\nlimit = '3'", "not a int"),
    ("[[source]]\nname = 'chembl'\nids = ['a']", "has no --ids"), ("[[source]", "is not TOML"), ("name = " + "9" * 5000, "is not TOML"),
])
def test_a_recipe_that_is_none_is_refused_by_name(written: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        read_recipe(published.write_text(tmp_path / "recipe.toml", written))
