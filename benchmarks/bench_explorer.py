"""The explorer on 14,000 drugs in Chromium: seconds from opening the page until it can be used, a name found, a card.

Needs a filled home (MKMED_HOME) with published vectors: ``mkmed demo`` makes one. A copy of it gets made-up drugs with
names, and vectors near those of real ones, until there are 14,000; it is served, and opened at 1280 and 390 pixels.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from record import report
from sqlalchemy import Engine, text

sys.path.insert(0, str(Path(__file__).parents[1]))
from kb.db.reading import open_reading
from kb.db.server import embedded
from kb.settings import load_settings
from mkmed.serve.answers import Answers
from mkmed.serve.app import create_app
from tests.browser import Visit, chromium

DRUGS, ROUNDS, MARK = 14_000, 3, 2.0
MAKE = """
INSERT INTO mkmed.drug (id, identity, name, kind, run_id)
SELECT (SELECT max(id) FROM mkmed.drug) + n, 'user.made:' || n, 'Drug ' || lpad(n::text, 5, '0'), 'unknown',
       (SELECT run_id FROM mkmed.drug LIMIT 1)
FROM generate_series(1, :missing) n"""
VECTORS = """
INSERT INTO mkmed.embedding (run_id, modality, drug_id, rests_on, embedding)
SELECT e.run_id, e.modality, m.id, e.rests_on,
       e.embedding + (SELECT array_agg((random() - .5) / 20 + 0 * (m.id + axis))
                      FROM generate_series(1, vector_dims(e.embedding)) axis)::vector
FROM (SELECT id, row_number() OVER (ORDER BY id) AS row FROM mkmed.drug WHERE identity LIKE 'user.made:%') m
JOIN (SELECT drug_id, row_number() OVER (ORDER BY drug_id) AS row, count(*) OVER () AS many, run_id, modality, rests_on,
             embedding FROM mkmed.embedding WHERE modality = 'fused'
             AND run_id = (SELECT run_id FROM mkmed.published_run)) e ON e.row = 1 + m.row % e.many"""


def stretch(engine: Engine) -> None:
    """Add drugs until there are DRUGS with a published vector."""
    with engine.begin() as connection:
        there = connection.scalar(text("SELECT count(*) FROM mkmed.embedding e JOIN mkmed.published_run USING (run_id)"
                                       " WHERE modality = 'fused'")) or 0
        connection.execute(text(MAKE), {"missing": DRUGS - there})
        connection.execute(text(VECTORS))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE mkmed.drug, mkmed.embedding"))


def look(browser: Any, url: str, width: int) -> dict[str, float]:
    """Open the page as a newcomer, type a name, and look at a card."""
    visit = Visit(browser, width)
    visit.page.goto(url)
    visit.page.wait_for_selector("body[data-ready]")
    ready = visit.page.evaluate("performance.now()") / 1000
    assert visit.page.inner_text("#state") == f"{DRUGS:,} drugs on the map"
    begun = time.perf_counter()
    visit.page.fill("#q", "metf")
    visit.until("document.querySelectorAll('#names option').length > 0")
    typed = time.perf_counter() - begun
    visit.page.fill("#q", "metformin")
    begun = time.perf_counter()
    visit.page.keyboard.press("Enter")
    visit.until("document.getElementById('state').textContent.endsWith(' is shown')")
    shown = time.perf_counter() - begun
    drawn = visit.page.evaluate("(() => { const t = performance.now(); draw(); return performance.now() - t; })()")
    visit.require_sound(url)
    visit.page.close()
    return {"usable s": ready, "names offered s": typed, "card s": shown, "map drawn s": drawn / 1000}


def main() -> None:
    """Stretch a copy, serve it, and look."""
    with tempfile.TemporaryDirectory(prefix="mkmed-explorer-") as folder:
        home = Path(folder) / "home"
        Path(folder).chmod(0o711)
        given = load_settings().home
        embedded(given).stop(force=True)
        shutil.copytree(given, home, symlinks=True, copy_function=shutil.copy2)
        for path in [given, *given.rglob("*")]:
            os.chown(home / path.relative_to(given), *(getattr(path.lstat(), name) for name in ("st_uid", "st_gid")),
                     follow_symlinks=False)
        settings = load_settings(home=home, database_url=None)
        try:
            from kb.db.engine import open_engine

            stretch(open_engine(settings))
            answers = Answers(open_reading(settings, seconds=60.0), settings)
            answers.warm()
            begun = time.perf_counter()
            first = len(answers.map)
            seconds = time.perf_counter() - begun
            server = uvicorn.Server(uvicorn.Config(create_app(answers), port=0, log_level="error", lifespan="off"))
            thread = threading.Thread(target=server.run)
            thread.start()
            while not server.started:
                time.sleep(0.02)
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
            rows = []
            with chromium() as browser:
                for width in (1280, 390):
                    taken = [look(browser, url, width) for _ in range(ROUNDS)]
                    rows.append({"pixels": width, "drugs": first,
                                 **{name: round(min(one[name] for one in taken), 2) for name in taken[0]}})
            server.should_exit = True
            thread.join()
        finally:
            embedded(home).stop(force=True)
    report("explorer", rows, map_computed_once_s=round(seconds, 2), mark_usable_s=MARK,
           load=[round(one, 1) for one in os.getloadavg()])


if __name__ == "__main__":
    main()
