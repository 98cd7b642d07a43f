"""V: the variant of the method that marks the discriminative pixels best, and whether it holds on other data."""
