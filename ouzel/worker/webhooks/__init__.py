"""Webhooks: what becomes of a job is told to an address that the operator admits. docs/webhooks.md."""
