"""Fuzzers: what reads bytes from strangers is given bytes that nobody thought of."""
