"""Figures that say how good a map is, one per file; each is a plain function over tensors."""
