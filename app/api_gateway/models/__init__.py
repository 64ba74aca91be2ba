"""The tables of the feature."""
