"""How fast is what we ship."""
