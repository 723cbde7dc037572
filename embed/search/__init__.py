"""Asking the store: the SQL functions from Python, molecules and texts from outside, and how unusual a question is.

Import from it: ``neighbours``, ``nearest``, ``molecules``, ``texts``, ``batch``. It must not train.
"""

from embed.search.sql import nearest, neighbours

__all__ = ["nearest", "neighbours"]
