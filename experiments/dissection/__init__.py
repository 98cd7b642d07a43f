"""Which concepts the channels of a trained network detect, beside a copy with random weights."""
