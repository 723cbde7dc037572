"""How the bundled corpus was put together: one module a table, each reading the source folders it is given."""
