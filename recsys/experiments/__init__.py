"""Training, metrics, runs and comparisons of recommenders.

Import from it: ``runs``, ``evaluate``, ``compare``, ``reproduce``.
"""
