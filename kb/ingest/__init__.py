"""The engine that runs a source: chunks, marks, retries, progress; and the records that a source hands over.

Import from it: ``engine``, ``records``, ``runs``. It must not know any one source.
"""
