"""The bucket matrix: one cell a (drug, modality, source), its proofs, its invariants, its coverage.

Import from it: ``cells``, ``verify``, ``coverage``. It must not know sources.
"""
