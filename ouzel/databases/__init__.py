"""Transactions that are durable when they return, in SQLite or PostgreSQL. Whoever uses them brings the tables."""
