"""The stages of an audit, each a function of a session: collect, solve, ablate, explain, report."""
