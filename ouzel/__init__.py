"""Ouzel: image classifiers that can explain themselves."""

__version__ = "0.1.0"
