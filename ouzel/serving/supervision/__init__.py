"""Keeping the services up: what is recorded of them, asking them, starting again what died."""
