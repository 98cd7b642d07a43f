"""A1: which rules of relevance order the pixels of vision transformers best."""
