"""S5: does a network go by the shape or by the texture, for each class and in each channel."""
