"""The application on top of the library: commands, stages, run folder, report."""
