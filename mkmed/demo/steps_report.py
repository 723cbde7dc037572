"""The demo's last step: everything that was found, on one page."""

from __future__ import annotations

from dataclasses import replace

from kb import output
from mkmed.demo.step import Demo, Stage


def _report(demo: Demo) -> None:
    from mkmed.report.collect import collect
    from mkmed.report.page import write

    findings = replace(collect(demo.engine, demo.settings), recommendation=demo.recommendation)
    path = write(findings, demo.settings.home / "report.html")
    output.say(f"      {path} ({path.stat().st_size / 2**20:.1f} MiB, one file, opens from disk)")


STEPS = (Stage("report", "mkmed report", _report),)
