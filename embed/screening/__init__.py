"""The screening tier: compounds by the million as Parquet beside the database, encoded in parts and searched exactly.

``rows`` reads inputs, ``encoding`` makes parts on any pool, ``dataset`` is the folder, ``search`` searches it out of
core, ``promote`` brings hits into the knowledge base. It knows no patients; only ``promote`` writes to the database.
"""
