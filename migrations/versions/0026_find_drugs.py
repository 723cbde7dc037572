"""Names found in the tables by whoever may read everything, and few rows named without reading every drug.

Revision ID: 0026
Revises: 0025
"""

from __future__ import annotations

from migrations.scripts import function, read, run

revision = "0026"
down_revision: str | None = "0025"
branch_labels = None
depends_on = None


NAMED = (("0013_facets.sql", "nearest"), ("0012_faster_names.sql", "similar_to_bits"),
         ("0012_faster_names.sql", "search_text"))
"""What asks the view of the drugs for the names of the few rows that it gives."""


def upgrade() -> None:
    """Replace the functions, and give the identifiers' rule a view of its own that find_drugs can ask.

    OFFSET 0 has the names looked up one by one; joined, the view was read whole.
    """
    run(read("0026_find_drugs.sql"))
    for script, name in NAMED:
        body = function(script, f"CREATE OR REPLACE FUNCTION mkmed.{name}(")
        for row in ("near.drug_id", "h.id"):
            body = body.replace(f"WHERE v.drug_id = {row}) d", f"WHERE v.drug_id = {row} OFFSET 0) d")
        run(body)


def downgrade() -> None:
    """Put them back as they were."""
    for script, name in (*NAMED, ("0012_faster_names.sql", "find_drugs")):
        run(function(script, f"CREATE OR REPLACE FUNCTION mkmed.{name}("))
    run(read("0025_parted.sql"))
    run("DROP VIEW mkmed.settled_identifier")
