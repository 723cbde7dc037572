"""A run as an artefact: its folder, checkpoints, the vector store, and a trained run ready to embed.

Import from it: ``folder``, ``checkpoint``, ``store``, ``inference``.
"""
