"""From what was ordered to what was given: codes, names, medications, interactions.

Import from it: ``medications``, ``interactions``, ``codes``. It must not know patients.
"""
