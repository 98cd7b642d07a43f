"""The table of attribution methods against networks: which is right on which."""
