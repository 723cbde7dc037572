"""The recommender: patients' visits in, medications with reasons out."""
