"""The embedding store: five modalities aligned to a molecular anchor, written to pgvector."""
