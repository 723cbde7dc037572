"""The model card of a run, as JSON and Markdown, made of what the run itself recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def facts(run: Mapping[str, Any], metrics: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says, as JSON values."""
    corpus = run["corpus"]
    return {
        "name": f"mkmed embedding {run['id'][:8]}",
        "run": run["id"],
        "release": run["release"],
        "created": run["created"],
        "task": "one vector for a drug from its molecule, pictures, texts, conformer, properties and knowledge graph",
        "width": config["width"],
        "modalities": run["modalities"],
        "encoders": run["encoders"],
        "corpus": corpus,
        "licences": run["licences"],
        "share": run["share"],
        "metrics": {key: metrics[key] for key in ("epochs", "best_epoch", "score", "test") if key in metrics},
        "configuration": config,
        "intended_use": "search for similar drugs, features for models of drugs and medications; research only",
        "limits": [
            "no clinical advice: neighbours may have opposite actions",
            "a vector says which modalities it rests on; one that rests on little says little",
            "labels (ATC codes, interactions) were not shown to training, but texts and graph edges may state them",
        ],
    }


def markdown(card: Mapping[str, Any]) -> str:
    """The card to be read."""
    corpus, metrics = card["corpus"], card["metrics"]
    lines = [
        f"# {card['name']}", "",
        f"{card['task'].capitalize()}. {card['width']} numbers a vector, by cosine.", "",
        f"- run `{card['run']}`, mkmed {card['release']}, {card['created']}",
        f"- corpus: {corpus['drugs']:,} drugs with anything, {corpus['train']:,} trained, {corpus['validation']:,} for"
        f" validation, {corpus['test']:,} held out by scaffold family; fingerprint `{corpus['fingerprint'][:16]}`",
        f"- may be passed on as: {card['share']}", "",
        "## Intended use", "", card["intended_use"].capitalize() + ".", "",
        "## Limits", "", *(f"- {limit}" for limit in card["limits"]), "",
        "## Encoders", "", "| modality | encoder | trained | sha256 |", "|---|---|---|---|",
        *(f"| {name} | {one.get('name', '')} | {one.get('trained', '')} | {str(one.get('sha256', ''))[:16]} |"
          for name, one in sorted(card["encoders"].items())), "",
        "## What went in", "", "| modality | licence | share | items |", "|---|---|---|---|",
        *(f"| {one['modality']} | {one['licence']} | {one['share']} | {one['items']:,} |"
          for one in card["licences"]), "",
        "## Held-out retrieval", "", "| from → to | drugs | recall@10 | chance |", "|---|---|---|---|",
        *(f"| {name.replace('->', ' → ')} | {one['drugs']} | {one['recall@10']:.3f} | {one['chance@10']:.3f} |"
          for name, one in metrics.get("test", {}).items()), "",
    ]
    return "\n".join(lines)
