"""Hours of mixed load on real services."""
