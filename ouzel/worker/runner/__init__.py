"""Runs queued jobs: claims them, starts their processes, retries what failed, reclaims what a dead worker held."""
