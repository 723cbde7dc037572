"""The user's own tables, CSV, TSV and SDF, row by row; nothing is lost without a word.

Import from it: ``source``, ``read``, ``columns``.
"""
