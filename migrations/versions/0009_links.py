"""Links to the graph by name, and further identifiers in the names of entities.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision: str | None = "0008"
branch_labels = None
depends_on = None

OLD = "'identifier', 'alias', 'inchikey', 'skeleton'"
CHECK = "ALTER TABLE mkmed.drug_entity ADD CONSTRAINT ck_drug_entity_method CHECK (method IN ({}))"
DROP = "ALTER TABLE mkmed.drug_entity DROP CONSTRAINT ck_drug_entity_method"
COMMENT = "COMMENT ON COLUMN mkmed.drug_entity.weak IS '{}'"
ALIASES = """
INSERT INTO mkmed.kg_alias (alias, entity_id)
SELECT found.alias, e.id FROM mkmed.kg_entity e CROSS JOIN LATERAL (SELECT CASE
    WHEN v ~* '^db[0-9]{5}$' THEN 'drugbank:' || upper(v)
    WHEN v ~* '^chembl[0-9]{1,9}$' THEN 'chembl:' || upper(v)
    WHEN v ~* '^hmdb:hmdb[0-9]{5,7}$' THEN 'hmdb:HMDB' || lpad(substr(v, 10), 7, '0')
    WHEN v ~* '^zinc:zinc[0-9]{1,12}$' THEN 'zinc:ZINC' || lpad(substr(v, 10), 12, '0')
    WHEN v ~* '^molport:molport(-[0-9]{3}){3}$' THEN 'molport:' || upper(substr(v, 9))
    WHEN v ~* '^bindingdb:(bdbm)?[1-9][0-9]{0,9}$' THEN 'bindingdb:' || regexp_replace(substr(v, 11), '^bdbm', '', 'i')
    END FROM regexp_split_to_table(split_part(e.name, '::', 2), '[;|]') AS v) AS found (alias)
WHERE e.type IN ('Compound', 'Drug') AND found.alias IS NOT NULL
ON CONFLICT DO NOTHING
"""


def upgrade() -> None:
    """Permit the method, and add the identifiers that entities of an older load lack."""
    op.execute(DROP)
    op.execute(CHECK.format(OLD.replace("'skeleton'", "'name', 'skeleton'")))
    op.execute(COMMENT.format("only the skeleton agrees, or a name that several have"))
    op.execute(ALIASES)


def downgrade() -> None:
    """Take links by name away; the aliases stay, as an older load of the same file would leave them be."""
    op.execute("DELETE FROM mkmed.drug_entity WHERE method = 'name'")
    op.execute(DROP)
    op.execute(CHECK.format(OLD))
    op.execute(COMMENT.format("only the skeleton agrees"))
