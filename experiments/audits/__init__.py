"""Complete audits of real networks."""
