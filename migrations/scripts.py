"""The SQL beside the revisions: whole scripts, and the parts of older ones that a downgrade puts back."""

from __future__ import annotations

from importlib.resources import files

from alembic import op


def read(name: str) -> str:
    """The text of a script."""
    return (files("migrations") / "sql" / name).read_text()


def run(script: str) -> None:
    """Run SQL as it stands: nothing in it is a parameter."""
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})


def between(name: str, start: str, end: str) -> str:
    """The part of a script from ``start`` to before ``end``."""
    script = read(name)
    begins = script.index(start)
    return script[begins : script.index(end, begins)]


def function(name: str, start: str) -> str:
    """A function of an older script, to be put in the place of a newer one."""
    body = between(name, start, "$$;\n") + "$$;\n"
    return body.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
