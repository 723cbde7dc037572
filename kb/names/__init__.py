"""What a written text names: words, the lexicon of drugs' names, and the matching of one with the other.

Import from it: ``words``, ``tables``, ``lexicon``, ``matching``. It must not know patients, orders or the network;
``recsys.orders`` and the command line ask it, so that a text means the same everywhere.
"""
