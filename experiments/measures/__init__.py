"""M2: every method beside every measure on seven networks, and which measures agree."""
