"""What a structure alone foretells: the texts, the place in the graph and the fused vector of a drug nobody described.

Import from it: ``head`` (a fitted head), ``fit``. It must not read a database: it sees molecules and vectors.
"""
