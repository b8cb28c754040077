"""The kinds of engine."""
