"""Q2: whether dividing each layer's scores by their sum helps, against other scalings and none."""
