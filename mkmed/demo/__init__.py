"""The bundled open corpus; every file's origin and licence stand in ``mkmed/demo/data/README.md``."""
