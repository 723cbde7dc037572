"""Who is who: identifiers, claims, the substances that they resolve to, merges and their undoing.

Import from it: ``identifiers``, ``resolve``, ``apply``, ``undo``. It must not know sources or the network.
"""
