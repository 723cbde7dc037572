"""What is known of a vocabulary of medications: vectors, what they are composed of, interactions, molecules.

Import from it: ``table``, ``gather``, ``composition``.
"""
