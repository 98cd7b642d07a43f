"""E4: whether maps depend on the class and on the weights, and whether the network needs what they mark."""
