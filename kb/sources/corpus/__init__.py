"""The bundled open corpus.

Import from it: ``source``.
"""
