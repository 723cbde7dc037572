"""The pretraining job: inputs, split, model and the loop.

Import from it: ``job``, ``loop``, ``inputs``, ``split``.
"""
