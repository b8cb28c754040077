"""The store of jobs: the one source of truth, in SQLite or PostgreSQL."""
