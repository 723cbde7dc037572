"""The report: what the knowledge base, the embedding and the recommender found, as one self-contained HTML page."""
