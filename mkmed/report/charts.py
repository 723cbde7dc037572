"""Charts of the page that gain from being pointed at, in Vega-Lite: the map, trainings by epoch, recommenders.

Vega 6.4.0, Vega-Lite 6.4.3 and Vega-Embed 7.3.0 (npm; Satyanarayan et al. 2017, BSD-3-Clause) stand in the page, 832
kB; it needs no network and evaluates no text as a program. Without a script the page shows the still pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkmed.report.collect import Findings

FOLDER = Path(__file__).resolve().parent
LIBRARIES = {
    "vega.min.js": "8f6a3587cf8d4f42c7e08120e3eb05d067e746d554e39d2dcf52acc0bd5ba28f",
    "vega-lite.min.js": "35a9821df838825b05a6a73e9414b58747a1b18321583858ed903c66393a5c7e",
    "vega-embed.min.js": "b1455caba2fb1a72fb46025ba0ba1316e2dbc7f0dd40a3f6040172bf9c08ba91",
}
"""The libraries in the order in which the page needs them, with the sha256 of what npm published."""
POLICY = ("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
          "form-action 'none'")
"""The page may ask nobody for anything."""
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
FEWEST = 3
"""Recommenders that a chart shows; fewer are seen at once in the table."""
Spec = dict[str, Any]


def charts(findings: Findings) -> dict[str, Spec]:
    """The charts that there is something for, by the name of the figure that they stand in."""
    found = {"map": map_chart(findings.places),
             "curves": epochs_chart(findings.epochs.get("embedding", ())),
             "recommenders": recommenders_chart(findings.recommenders),
             "recommender curves": epochs_chart(findings.epochs.get("recommender", ()))}
    return {name: spec for name, spec in found.items() if spec is not None}


def map_chart(places: Sequence[Mapping[str, Any]]) -> Spec | None:
    """The drugs as points named when pointed at; a click on the legend picks groups, shift and wheel go nearer."""
    if not places:
        return None
    axis = {"type": "quantitative", "axis": None, "scale": {"zero": False}}
    return _chart(places, height=460, mark={"type": "circle", "size": 22}, params=[
        {"name": "near", "bind": "scales", "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"}},
        {"name": "picked", "bind": "legend", "select": {"type": "point", "fields": ["group"]}},
    ], encoding={
        "x": {"field": "x", **axis}, "y": {"field": "y", **axis},
        "color": {"field": "group", "type": "nominal", "scale": {"scheme": "tableau20"},
                  "legend": {"title": None, "orient": "bottom", "columns": 2, "labelLimit": 150, "symbolOpacity": 1}},
        "opacity": {"condition": {"param": "picked", "value": 0.9}, "value": 0.06},
        "tooltip": [{"field": "name", "type": "nominal"}, {"field": "group", "type": "nominal"}],
    })


def epochs_chart(rows: Sequence[Mapping[str, Any]]) -> Spec | None:
    """One metric of a training by epoch, chosen from a list."""
    measures = list(dict.fromkeys(name for row in rows for name, value in row.items()
                                  if name != "epoch" and isinstance(value, int | float)))
    long = [{"epoch": row["epoch"], "metric": name, "value": row[name]} for row in rows for name in measures
            if "epoch" in row and isinstance(row.get(name), int | float)]
    if len({point["epoch"] for point in long}) < 2:
        return None
    return _chart(long, height=220, mark={"type": "line", "point": True}, params=[
        {"name": "shown", "value": "loss" if "loss" in measures else measures[0],
         "bind": {"input": "select", "name": "metric ", "options": measures}},
    ], transform=[{"filter": "datum.metric == shown"}], encoding={
        "x": {"field": "epoch", "type": "quantitative", "axis": {"tickMinStep": 1}},
        "y": {"field": "value", "type": "quantitative", "scale": {"zero": False}, "title": None},
        "tooltip": [{"field": "epoch"}, {"field": "metric"}, {"field": "value", "format": ".4~g"}],
    })


def recommenders_chart(rows: Sequence[Mapping[str, Any]]) -> Spec | None:
    """The recommenders' Jaccard with its interval; pointing at one shows all its figures."""
    if len(rows) < FEWEST:
        return None
    values = [{"recommender": row["recommender"], **row["per_visit"], "low": row["intervals"]["jaccard"][0],
               "high": row["intervals"]["jaccard"][1], "ours": row["recommender"].startswith("mkmed")} for row in rows]
    told = [{"field": "recommender"}, *({"field": name, "format": ".3f"} for name in
                                        ("jaccard", "low", "high", "f1", "prauc", "ddi_rate", "medications"))]
    x = {"type": "quantitative", "scale": {"zero": False}, "title": "Jaccard, 95 % interval"}
    colour = {"field": "ours", "type": "nominal", "legend": None,
              "scale": {"domain": [True, False], "range": ["#1f5fa8", "#777777"]}}
    y = {"field": "recommender", "type": "nominal", "sort": None, "title": None}
    rule = {"mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}}}
    dot = {"mark": {"type": "point", "filled": True, "size": 90}, "encoding": {"x": {"field": "jaccard", **x}}}
    return _chart(values, height={"step": 22}, encoding={"y": y, "color": colour, "tooltip": told}, layer=[rule, dot])


def _chart(values: Sequence[Mapping[str, Any]], **more: Any) -> Spec:
    return {"$schema": SCHEMA, "width": "container", "background": None, "data": {"values": list(values)},
            "config": {"font": "system-ui, sans-serif", "view": {"stroke": None}}, **more}


def scripts(specs: Mapping[str, Spec]) -> str:
    """The elements that draw the charts: data, libraries, and the page's own script; none without a chart."""
    if not specs:
        return ""
    texts = [(FOLDER / "vendor" / name).read_text(encoding="utf-8") for name in LIBRARIES]
    texts.append((FOLDER / "charts.js").read_text(encoding="utf-8"))
    data = json.dumps(specs, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return "\n".join([f'<script type="application/json" id="charts">{data}</script>',
                      *(f"<script>{text.replace('</script', '<' + chr(92) + '/script')}</script>" for text in texts)])
