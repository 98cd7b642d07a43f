"""E3: whether the maps lie on the pixels that tell the class."""
