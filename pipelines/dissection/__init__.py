"""Network Dissection as a command: its settings, its work, and the files it leaves."""
