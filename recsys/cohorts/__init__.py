"""Patients' visits as arrays: choosing them, keeping them under the user's eyes only, batches and tasks.

Import from it: ``cohort``, ``prepare``, ``files``, ``tasks``, ``batches``.
"""
