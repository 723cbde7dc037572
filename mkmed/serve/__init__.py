"""The service: the knowledge base, search, vectors and recommendations over HTTP, for this machine or behind a token.

Import from it: ``app``. It holds no state but what it has loaded, and writes nothing.
"""
