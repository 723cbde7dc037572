"""The schema of the database, one revision after the other."""
