"""One file that names sources, files, filters and order, and makes the same knowledge base from them each time.

    name = "mine"

    [[source]]
    name = "corpus"

    [[source]]
    name = "rxnorm"
    path = "rrf.zip"                # relative to the recipe
    sha256 = "9f86d081884c7d65…"    # the version: another file is refused

Further keys of a source are the options of ``mkmed kb ingest``. What was built is described by a data card.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, text

from kb import output
from kb.errors import ContractViolation, UsageError
from kb.inputs import read_toml, sha256_of
from kb.ledger.coverage import bucket_rows, buckets
from kb.modalities import MODALITIES
from kb.query.snapshot import release_of
from kb.sources import SOURCES
from kb.sources.contract import IngestOptions

if TYPE_CHECKING:
    from kb.ingest.engine import Summary
    from kb.settings import Settings

    Ingest = Callable[[Engine, Settings, str, IngestOptions], Summary]

KINDS: Mapping[str, type] = {"path": str, "url": str, "limit": int, "ids": list, "modalities": list, "headings": list,
                             "columns": dict, "also": dict, "dataset": str, "allow_subset": bool, "workers": int}
"""Options of an ingest that a recipe may give, and what each is in TOML."""


@dataclass(frozen=True, slots=True)
class RecipeStep:
    """One source of a recipe with its options, and the sha256 that its file must have."""

    source: str
    options: IngestOptions
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """A name and the sources in their order."""

    name: str
    steps: tuple[RecipeStep, ...]


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file; raises UsageError, with the nearest name, for whatever is not one."""
    given = read_toml(path, "--recipe")
    sources = given.get("source")
    _known(given, ("name", "source"), path.name)
    if not isinstance(sources, list) or not sources or not all(isinstance(s, dict) for s in sources):
        raise UsageError(f"{path.name} names no source", hint='[[source]] name = "corpus"')
    name = given.get("name", path.stem)
    if not isinstance(name, str):
        raise UsageError(f"{path.name}: name is not a text", hint='name = "mine"')
    return Recipe(name, tuple(_step(source, number, path) for number, source in enumerate(sources, 1)))


def _step(given: Mapping[str, Any], number: int, path: Path) -> RecipeStep:
    where = f"{path.name}, source {number}"
    _known(given, ("name", "sha256", *KINDS), where)
    if not isinstance(given.get("name"), str):
        raise UsageError(f"{where} has no name", hint=f"known: {', '.join(SOURCES)}")
    source = SOURCES[given["name"]]()
    for key, kind in KINDS.items():
        if key in given and (not isinstance(given[key], kind) or (kind is int and isinstance(given[key], bool))):
            raise UsageError(f"{where}: {key} is not a {kind.__name__}", hint="see mkmed kb ingest --help")
    values: dict[str, Any] = {key: given[key] for key in KINDS if key in given}
    for key in ("ids", "modalities", "headings"):
        if key in values:
            values[key] = tuple(map(str, values[key]))
    if "path" in values:
        values["path"] = path.parent / values["path"]
    if "also" in values:
        values["also"] = {role: path.parent / str(name) for role, name in values["also"].items()}
    options = IngestOptions(**values, yes="yes" in source.options)
    source.refuse_other_options(options)
    sha256 = given.get("sha256")
    if sha256 is not None and (not isinstance(sha256, str) or "path" not in values):
        raise UsageError(f"{where}: sha256 is that of a path", hint="give both, or none")
    return RecipeStep(given["name"], options, sha256.lower() if sha256 else None)


def _known(given: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    other = next((key for key in given if key not in names), None)
    if other is not None:
        close = difflib.get_close_matches(other, names, n=1)
        raise UsageError(f"{where}: there is no {other!r}", hint=f"did you mean {close[0]!r}?" if close else
                         f"known: {', '.join(names)}")


def follow_recipe(engine: Engine, settings: Settings, recipe: Recipe, ingest: Ingest) -> dict[str, Any]:
    """The data card of what every step in its order made; all files are checked before the first is read.

    Steps that were done before change nothing. Raises ContractViolation for a file of another version.
    """
    for step in recipe.steps:
        if step.sha256 and step.options.path is not None and sha256_of(step.options.path).hex() != step.sha256:
            raise ContractViolation(f"{step.options.path.name} is not the file of the recipe",
                                    hint=f"its sha256 should be {step.sha256}")
    done = []
    for number, step in enumerate(recipe.steps, 1):
        output.say(f"[{number}/{len(recipe.steps)}] {step.source}")
        summary = ingest(engine, settings, step.source, step.options)
        about = {"source": step.source, "sha256": step.sha256, "seconds": round(summary.seconds, 1)}
        done.append(about | summary.counts)
    with engine.connect() as connection:
        return {"recipe": recipe.name, **card(connection), "steps": done}


_SOURCES = """
SELECT s.name, s.title, s.origin, s.licence_id AS licence,
       (SELECT count(*) FROM mkmed.records r WHERE r.source = s.name) AS drugs,
       (SELECT count(*) FROM mkmed.texts t WHERE t.source = s.name) AS texts,
       (SELECT count(*) FROM mkmed.indications i WHERE i.source = s.name) AS indications,
       (SELECT count(*) FROM mkmed.interactions i WHERE i.source = s.name) AS interactions,
       (SELECT count(DISTINCT p.key) FROM mkmed.products p WHERE p.source = s.name) AS products,
       (SELECT count(*) FROM mkmed.kg_triple k JOIN mkmed.kg_provenance p ON p.id = k.provenance
        WHERE p.source = s.name) AS triples,
       (SELECT max(d.upstream_version) FROM mkmed.documents d WHERE d.source = s.name) AS version
FROM mkmed.sources s ORDER BY s.name
"""
_LICENCES = """
SELECT l.id AS licence, l.share, mkmed.is_open(l.id) AS open, sum(n)::bigint AS rows FROM (
    SELECT licence_id, count(*) AS n FROM mkmed.records GROUP BY 1
    UNION ALL SELECT licence_id, count(*) FROM mkmed.texts GROUP BY 1
    UNION ALL SELECT licence_id, count(*) FROM mkmed.indications GROUP BY 1
    UNION ALL SELECT licence_id, count(*) FROM mkmed.interactions GROUP BY 1
    UNION ALL SELECT licence_id, count(DISTINCT (source, key)) FROM mkmed.products GROUP BY 1
    UNION ALL SELECT p.licence_id, count(*) FROM mkmed.kg_triple k JOIN mkmed.kg_provenance p ON p.id = k.provenance
    GROUP BY 1) c JOIN mkmed.licences l ON l.id = c.licence_id GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1
"""
_GAPS = """
SELECT modality, state, count(*) AS cells FROM mkmed.availability WHERE state NOT IN ('present', 'unknown')
GROUP BY 1, 2 ORDER BY 1, 2
"""


def card(connection: Connection) -> dict[str, Any]:
    """What the knowledge base holds: release, counts, sources, licences, coverage and gaps."""
    release, counts = release_of(connection)
    found = buckets(connection)
    drugs = sum(bucket.drugs for bucket in found)

    def rows(query: str) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(text(query)).mappings()]

    coverage = {
        str(name): sum(row["drugs"] for row in bucket_rows(found) if row[str(name)]) for name in MODALITIES
    }
    lacking = sum(row["drugs"] for row in bucket_rows(found) if not row["modalities"])
    return {"release": release, "drugs": drugs, "facts": counts, "sources": rows(_SOURCES), "licences": rows(_LICENCES),
            "coverage": coverage | {"none": lacking}, "gaps": rows(_GAPS)}


def recipe_json(found: Mapping[str, Any]) -> str:
    """The card as JSON."""
    return json.dumps(found, indent=1, ensure_ascii=False, default=str) + "\n"


def as_markdown(found: Mapping[str, Any]) -> str:
    """The card as a page."""
    drugs = max(1, found["drugs"])
    covered = [{"modality": name, "drugs": n, "share": f"{n / drugs:.1%}"} for name, n in found["coverage"].items()]
    parts = [f"# Data card: {found.get('recipe', 'knowledge base')}",
             f"Release `{found['release']}`: {found['drugs']:,} drugs.",
             "## Facts", _table([{"kind": kind, "rows": n} for kind, n in found["facts"].items()]),
             "## Sources", _table(found["sources"]), "## Licences", _table(found["licences"]),
             "## Coverage", _table(covered), "## Gaps", _table(found["gaps"]) if found["gaps"] else "None is known."]
    return "\n\n".join(parts) + "\n"


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "None."
    lines = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
    lines += ["| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value or "").replace("|", "\\|")
