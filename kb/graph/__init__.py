"""The knowledge graph: entities, relations, triples, and the links between drugs and entities.

Import from it: ``load``, ``link``. It must not know which file a triple came from.
"""
