"""The filter visualization report: what a network's filters, channels, classes and embedding look like."""
