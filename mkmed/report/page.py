"""Renders the findings as one HTML file: no script, no font, no picture is fetched from anywhere.

Its tables and still pictures need no script; ``mkmed.report.charts`` puts charts to point at over some of them.
"""

from __future__ import annotations

import io
import re
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from kb.files import replace_file, require_place
from kb.ledger.coverage import draw_coverage
from mkmed.report.charts import POLICY, charts, scripts
from mkmed.report.collect import Findings
from mkmed.report.findings import empty_drugs, three

METRICS = ("jaccard", "f1", "prauc", "ddi_rate", "medications")


def render(findings: Findings) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "percent": percent, "shade": shade}
    template = environment.from_string((files("mkmed.report") / "page.html.j2").read_text(encoding="utf-8"))
    pictures = {name: Markup(inline(svg, name)) for name, svg in findings.pictures.items()}  # noqa: S704 - our own SVG
    if findings.found:
        pictures["buckets"] = Markup(inline(_svg(draw_coverage(findings.found)), "buckets"))  # noqa: S704 - drawn here
    if findings.recommendation and findings.recommendation.get("molecule"):
        pictures["molecule"] = Markup(inline(findings.recommendation["molecule"], "molecule"))  # noqa: S704 - by RDKit
    names = {row["code"]: row["name"] for part in ("recommended", "avoided")
             for row in (findings.recommendation or {}).get(part, ())}
    drawn = ("pictures", "found", "places", "epochs")
    values = {key: value for key, value in asdict(findings).items() if key not in drawn}
    specs = charts(findings)
    return template.render(**values, pictures=pictures, three=three(findings), empty=empty_drugs(findings),
                           metrics=METRICS, matrix=retrieval_matrix(findings.evaluation), policy=POLICY, charts=specs,
                           scripts=Markup(scripts(specs)),  # noqa: S704 - pinned libraries, and JSON without "<"
                           named=lambda code: f"{names[code]} ({code})" if names.get(code) else code)


def write(findings: Findings, path: Path) -> Path:
    """The path of the page, written under a temporary name first; a page with a patient is its owner's alone."""
    require_place(path)
    replace_file(path, render(findings), mode=0o600 if findings.recommendation is not None else None)
    return path


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "mkmed", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def inline(svg: str, prefix: str) -> str:
    """An SVG that may stand in a page with others: no prologue, a viewBox instead of a size, ids of its own."""
    body = svg[svg.index("<svg") :]
    head, rest = body.split(">", 1)
    size = {name: re.search(rf'\b{name}="([\d.]+)(?:pt|px)?"', head) for name in ("width", "height")}
    if "viewBox" not in head and all(size.values()):
        head += f' viewBox="0 0 {size["width"].group(1)} {size["height"].group(1)}"'  # type: ignore[union-attr]
    head = re.sub(r'\b(width|height)="[^"]*"', "", head)
    mark = re.sub(r"\W", "-", prefix)
    rest = re.sub(r'\bid="([^"]+)"', rf'id="{mark}-\1"', rest)
    rest = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", rest)
    rest = re.sub(r'href="#([^"]+)"', rf'href="#{mark}-\1"', rest)
    return f'{head} role="img" aria-label="{prefix}">{rest}'


def retrieval_matrix(evaluation: dict[str, Any] | None) -> dict[str, Any] | None:
    """Names and a square of cells (drugs, recall@10, lift) from the evaluation's list of pairs."""
    if not evaluation or not evaluation.get("retrieval"):
        return None
    pairs = {(row["from"], row["to"]): row for row in evaluation["retrieval"]}
    names = sorted({name for pair in pairs for name in pair})
    return {"names": names, "cells": [[pairs.get((a, b)) or pairs.get((b, a)) for b in names] for a in names]}


def number(value: Any, digits: int = 3) -> str:
    """A figure as people read it; a dash where there is none."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def percent(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None else f"{100 * value:.1f} %"


def shade(value: float | None) -> str:
    """The strength of a cell's background, 0 to 1 by the square root so that small differences show."""
    return f"{max(0.0, min(1.0, value or 0.0)) ** 0.5:.2f}"
