"""Kinds of jobs without torch: processes that start at once, and behave as their spec says."""
