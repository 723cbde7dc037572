"""What the vectors are worth: retrieval between modalities, therapeutic classes, interactions and indications.

All functions here are pure: arrays in, figures out. ``embed.evaluation.run`` reads a run and calls them.
"""
