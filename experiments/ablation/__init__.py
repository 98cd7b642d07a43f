"""E1: what a class loses when the channels identified for it are removed, against controls."""
