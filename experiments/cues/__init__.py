"""S6: whether shortcuts of every kind are found, on networks from five sources."""
