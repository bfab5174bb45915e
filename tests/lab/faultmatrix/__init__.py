"""The fault matrix: one row a fault, each with the outcome that is documented for it; `tests/lab/matrix` runs it."""
