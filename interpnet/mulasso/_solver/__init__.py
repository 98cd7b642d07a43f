"""The solver of the mu-lasso: every way to a solution, and the certificate at the solution returned."""
