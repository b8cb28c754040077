"""What a pool holds, and what it has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolStatistics:
    """A snapshot.

    Attributes:
        networks: Prepared networks in memory.
        heads: Models in memory, each with a head or a network of its own.
        bytes: That both take.
        hits: Requests whose model was in memory.
        misses: Requests whose model was not.
        evictions: Networks and heads that made room.
        load_seconds: That loading has taken, all together.
    """

    networks: int = 0
    heads: int = 0
    bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    load_seconds: float = 0.0
