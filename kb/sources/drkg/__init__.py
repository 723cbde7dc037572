"""DRKG, the Drug Repurposing Knowledge Graph: its reader, its published counts, the source.

Import from it: ``source``.
"""
