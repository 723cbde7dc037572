"""Who is who: claims, the substances that they resolve to, merges and their undoing.

Import from it: ``claims``, ``undo``, ``fingerprints``, ``forms``. It must not know sources or the network.
"""
