"""PubChem: PUG REST and PUG View (``source``), and the bulk files from disk (``bulk``).

Import from it: ``source``, ``bulk``. What its answers mean is decided in ``answers`` alone.
"""
