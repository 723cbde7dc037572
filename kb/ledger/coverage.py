"""The bucket matrix as numbers and as a picture: how many drugs have which combination of modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from kb.modalities import MODALITIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Bucket:
    """A combination of modalities and the number of drugs that have exactly it."""

    has: tuple[bool, ...]
    drugs: int

    @property
    def modalities(self) -> int:
        """How many modalities the bucket has."""
        return sum(self.has)


def buckets(connection: Connection) -> list[Bucket]:
    """Every combination that occurs, most drugs first."""
    columns = ", ".join(MODALITIES)
    rows = connection.execute(
        text(f"SELECT {columns}, count(*) FROM mkmed.bucket GROUP BY {columns} ORDER BY count(*) DESC, {columns}")  # noqa: S608
    ).all()
    return [Bucket(tuple(row[:-1]), row[-1]) for row in rows]


def bucket_rows(found: Sequence[Bucket]) -> list[dict[str, Any]]:
    """The buckets as rows for a table: a column a modality, the count and the share of all drugs."""
    total = sum(b.drugs for b in found) or 1
    return [
        {
            **{m.value: has for m, has in zip(MODALITIES, b.has, strict=True)},
            "modalities": b.modalities,
            "drugs": b.drugs,
            "share": round(b.drugs / total, 4),
        }
        for b in found
    ]


def draw_coverage(found: Sequence[Bucket], largest: int = 24) -> Figure:
    """An UpSet picture (Lex 2014): bars for the buckets, dots for what is in them, bars for each modality's total."""
    from matplotlib.figure import Figure

    shown = list(found[:largest])
    figure = Figure(figsize=(max(7.0, 2.6 + 0.42 * len(shown)), 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1, max(3, len(shown) * 0.4)), height_ratios=(2, 1), wspace=0.02)
    _draw_sizes(figure.add_subplot(grid[0, 1]), shown, hidden=len(found) - len(shown))
    _draw_dots(figure.add_subplot(grid[1, 1]), shown)
    _draw_totals(figure.add_subplot(grid[1, 0]), found)
    return figure


def _draw_sizes(axes: Any, shown: Sequence[Bucket], hidden: int) -> None:
    bars = axes.bar(range(len(shown)), [b.drugs for b in shown], color="#33658a")
    axes.bar_label(bars, fontsize=7, padding=1)
    axes.set_xlim(-0.6, max(len(shown) - 0.4, 0.6))
    axes.set_xticks([])
    axes.set_ylabel("drugs")
    axes.spines[["top", "right"]].set_visible(False)
    if hidden > 0:
        axes.set_title(f"{hidden} smaller buckets not shown", fontsize=8, loc="right")


def _draw_dots(axes: Any, shown: Sequence[Bucket]) -> None:
    for column, bucket in enumerate(shown):
        rows = [row for row, has in enumerate(bucket.has) if has]
        axes.scatter([column] * len(MODALITIES), range(len(MODALITIES)), s=26, color="#d9d9d9", zorder=1)
        axes.scatter([column] * len(rows), rows, s=30, color="#22333b", zorder=3)
        if len(rows) > 1:
            axes.plot([column, column], [rows[0], rows[-1]], color="#22333b", linewidth=1.6, zorder=2)
    axes.set_xlim(-0.6, max(len(shown) - 0.4, 0.6))
    axes.set_ylim(len(MODALITIES) - 0.5, -0.5)
    axes.set_yticks(range(len(MODALITIES)), [m.value for m in MODALITIES])
    axes.set_xticks([])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _draw_totals(axes: Any, found: Sequence[Bucket]) -> None:
    totals = [sum(b.drugs for b in found if b.has[i]) for i in range(len(MODALITIES))]
    bars = axes.barh(range(len(MODALITIES)), totals, color="#86bbd8")
    axes.bar_label(bars, fontsize=7, padding=1)
    axes.set_xlim(max(totals, default=1) * 1.25 or 1, 0)
    axes.set_ylim(len(MODALITIES) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlabel("drugs that have it", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "left"]].set_visible(False)
