"""A finished audit, logged to an experiment tracker."""
