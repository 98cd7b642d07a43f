"""S6: are shortcuts of every kind found, on networks from several sources."""
