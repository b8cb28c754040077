"""Clients for audits of models that other services serve: only their predictions are needed.

An operator registers endpoints in a file (`file.read`); callers name them, and never an address. `config`, `file` and
what they need load without torch, because the worker's service reads the file. `open.open_endpoint` makes a predictor.
"""
