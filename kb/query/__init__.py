"""Everything that leaves the knowledge base: the read API, what is shown of a drug, status and exports.

Import from it: ``read``, ``show``, ``status``, ``export``. It must not write.
"""
