"""The knowledge base: drugs, their modalities and the ledger of what is known, in PostgreSQL."""
