"""Audits within interactive time, in a process that stays. torch is loaded there, and not in the service."""
