"""A trained recommender asked for one patient: recommendations and their reasons.

Import from it: ``recommend``, ``explain``, ``listing``.
"""
