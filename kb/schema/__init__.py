"""The tables of the knowledge base, in five files: ledger, identity, payloads, graph, products.

``METADATA`` is what Alembic compares the database with. Other rooms declare their own tables on it.
"""

from kb.schema import graph, identity, ledger, payloads, products
from kb.schema.base import METADATA, SCHEMA

__all__ = ["METADATA", "SCHEMA", "graph", "identity", "ledger", "payloads", "products"]
