"""Thin Python client of Ouzel."""
