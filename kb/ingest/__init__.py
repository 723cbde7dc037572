"""The engine that runs a source: chunks, marks, retries, progress; what it writes.

Import from it: ``engine``. It must not know any one source.
"""
