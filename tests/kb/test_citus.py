"""The script for Citus, against stand-ins of its functions: what triples refer to lies everywhere before they are spread."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, text

SCRIPT = Path(__file__).parents[2] / "docs" / "deploy" / "citus.sql"
STAND_INS = """
CREATE TABLE public.done (number int GENERATED ALWAYS AS IDENTITY, what text, name text, by text);
CREATE FUNCTION public.create_reference_table(t regclass) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO public.done (what, name) VALUES ('reference', t::text) $$;
CREATE FUNCTION public.create_distributed_table(t regclass, c text) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO public.done (what, name, by) VALUES ('distributed', t::text, c) $$;
"""
REFERS = """SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint
            WHERE contype = 'f' AND conrelid <> confrelid AND connamespace = 'mkmed'::regnamespace"""


def test_what_triples_refer_to_comes_first(fresh_database: Engine) -> None:
    with fresh_database.connect() as connection:
        connection.execute(text(STAND_INS))
        connection.commit()
        connection.connection.cursor().execute(SCRIPT.read_text())
        done = connection.execute(text("SELECT what, name, by FROM public.done ORDER BY number")).all()
        refers = connection.execute(text(REFERS)).all()
    assert done[-1] == ("distributed", "kg_triple", "head")
    placed = [row.name for row in done]
    assert len(placed) == len(set(placed)) and {row.what for row in done[:-1]} == {"reference"}
    assert {"kg_entity", "kg_relation", "kg_provenance"} <= set(placed)
    for table, other in refers:
        if table in placed:
            assert placed.index(other) < placed.index(table), f"{table} refers to {other}"
