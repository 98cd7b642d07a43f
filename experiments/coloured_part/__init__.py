"""Q5: whether maps mark the part of the plant that is coloured, or the whole plant."""
