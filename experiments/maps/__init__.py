"""M1: which maps of channels lie where the class is decided, beside the methods of the literature."""
