"""Postgres: the embedded server, connections, migrations, bulk copies and what can go wrong with them."""
