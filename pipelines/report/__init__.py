"""The report of a run: one self-contained HTML file, with tables and figures beside it."""
