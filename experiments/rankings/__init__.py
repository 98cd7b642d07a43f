"""Q1: whether the mu-lasso's channels matter more to their class than those of other rankings."""
