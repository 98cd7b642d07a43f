"""A run: its settings, its folder, and what it audits."""
