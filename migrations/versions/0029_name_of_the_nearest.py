"""The names of the nearest are looked up one by one: the planner read every drug of a million for ten names.

Of an index, up to ten are asked for with half the walk.

Revision ID: 0029
Revises: 0028
"""

from __future__ import annotations

import re

from migrations.scripts import function, run

revision = "0029"
down_revision: str | None = "0028"
branch_labels = None
depends_on = None

FUNCTIONS = (("0028_bit_index.sql", "CREATE OR REPLACE FUNCTION mkmed.nearest("),
             ("0014_alike.sql", "CREATE OR REPLACE FUNCTION mkmed.similar_drugs("))
NAME = re.compile(r"(SELECT v\.name FROM mkmed\.drugs v WHERE v\.drug_id = \w+\.drug_id)\)")
AFTER = "    many := greatest(40 * k, 1000);\n"
FEW = """    IF k <= 10 AND NOT filtered THEN  -- holds .99 of them at a million (bench_scale.py)
        PERFORM set_config('hnsw.ef_search', '100', true);
    END IF;
"""


def upgrade() -> None:
    """An OFFSET keeps a look-up from being joined, as in the functions that search names and fingerprints."""
    for script, start in FUNCTIONS:
        run(NAME.sub(r"\1 OFFSET 0)", function(script, start)).replace(AFTER, AFTER + FEW))


def downgrade() -> None:
    """As they were."""
    for script, start in FUNCTIONS:
        run(function(script, start))
