"""When to try again. A policy only: the deadline of the call bounds all attempts together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ouzel_client.errors import ConfigurationError, Overloaded, Unavailable
from ouzel_protos.limits import too_small

RETRIED = (Unavailable, Overloaded)


@dataclass(frozen=True)
class Retry:
    """How often to try again, and after which pauses.

    Each pause is drawn from the upper half of its length: clients that failed together should not return together.

    Attributes:
        attempts: How many attempts there are, the first included, at least 1; 1 means no retry.
        initial: Seconds of the first pause, at least 0.
        maximum: Seconds of the longest pause.
        multiplier: Factor from one pause to the next, at least 1.

    Raises:
        ConfigurationError: A value is out of its range.
    """

    attempts: int = 4
    initial: float = 0.1
    maximum: float = 2.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if problem := too_small(self.attempts, 1):
            raise ConfigurationError(f"retry.attempts: {problem}")
        if not (0 <= self.initial <= self.maximum and self.multiplier >= 1):
            raise ConfigurationError(f"retry: 0 <= initial <= maximum and 1 <= multiplier must hold, not {self}")

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before the second attempt, the third, ..."""
        pause = self.initial
        for _ in range(self.attempts - 1):
            yield pause * random.uniform(0.5, 1)
            pause = min(pause * self.multiplier, self.maximum)
