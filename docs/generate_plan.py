"""Writes the table of docs/operations.md from ``mkmed plan``; a test fails when it is stale."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parent / "operations.md"
BEGIN, END = "<!-- plan -->\n", "<!-- end of plan -->\n"
DRUGS, PATIENTS, CORES = 1e8, 1e7, 64


def table() -> str:
    """The steps for ``DRUGS`` compounds and ``PATIENTS`` patients on ``CORES`` cores, as Markdown."""
    from mkmed.plan.estimate import load_rates, planned_steps

    rates = load_rates()
    rows = ["| step | where | for | hours | memory | disk | how known | what drives the cost | rate from |",
            "|---|---|---|---|---|---|---|---|---|"]
    rows += [f"| {r.step} | {r.where} | {r.n:,} | {r.hours:g} | {r.memory_gib:g} GiB | {r.disk_gib:g} GiB | {r.basis}"
             f" | {r.driver} | `{r.source}` |" for r in planned_steps(DRUGS, PATIENTS, CORES, rates)]
    head = f"10⁸ compounds and 10⁷ patients on {CORES} cores like those of a {rates['machine']}:\n\n"
    return head + "\n".join(rows) + "\n"


def main() -> None:
    """Put the table where it belongs."""
    text = PAGE.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(text[:begin] + table() + text[end:])


if __name__ == "__main__":
    main()
