"""A local server that speaks PubChem's shapes, enforces its limits, and fails on request."""
