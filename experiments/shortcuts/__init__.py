"""S1: whether networks that rely on a planted shortcut are found by their audit, and repaired."""
