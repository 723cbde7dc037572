"""Fuzzing of everything that reads what comes from outside: no crash but a MkmedError, within bounded memory."""
