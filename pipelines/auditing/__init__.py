"""An audit as a whole: its stages in order, from Python and from the command line, and what comes of it."""
