"""The ledger: runs, look-ups, one cell a (drug, modality, source), its proofs, its invariants, its coverage.

Import from it: ``entries``, ``verify``, ``coverage``. It must not know sources.
"""
