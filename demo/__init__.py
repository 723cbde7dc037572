"""The bundled open corpus; every file's origin and licence stand in ``demo/data/README.md``."""
