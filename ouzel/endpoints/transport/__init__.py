"""Requests to strangers, within limits of time, rate and size."""
