"""The names of the nearest are looked up one by one: the planner read every drug of a million for ten names.

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


def upgrade() -> None:
    """An OFFSET keeps a look-up from being joined, as in the functions that search names and fingerprints."""
    for script, start in FUNCTIONS:
        run(NAME.sub(r"\1 OFFSET 0)", function(script, start)))


def downgrade() -> None:
    """As they were."""
    for script, start in FUNCTIONS:
        run(function(script, start))
