"""C1: what can be read off the layers of trained and untrained networks."""
