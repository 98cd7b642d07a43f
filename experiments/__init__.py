"""Questions asked of the library, each with its command and its answer."""
