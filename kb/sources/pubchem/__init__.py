"""PubChem: PUG REST and PUG View (``source``), and the bulk files from disk (``bulk``).

The way of a compound: ``source`` (what is asked for, stage by stage), ``ask`` (the request, and what its answer means),
``parse`` (bytes to typed values), ``proof`` (what the structure proves, and the record that it makes).
Import from it: ``source``, ``bulk``.
"""
