"""C3: what a class's log-odds do along concepts in EfficientNet-Lite0."""
