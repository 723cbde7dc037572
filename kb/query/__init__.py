"""Everything that leaves the knowledge base: the read API, what is shown of a drug, what is found, status and exports.

Import from it: ``read``, ``find``, ``status``, ``export``. It writes nothing but bits of structures that a
search lacks.
"""
