"""Bodies and answers of the feature."""
