"""Hundreds of models from the memory of a few: those with the same backbone share it.

`PoolService` answers for all models of a store. It keeps prepared networks and heads, and lets the least recently used
go when they take more memory than they may.
"""

from ouzel.explain.pool.service import PoolService
from ouzel.explain.pool.statistics import PoolStatistics

__all__ = ["PoolService", "PoolStatistics"]
