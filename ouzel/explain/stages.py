"""Where the time of a batch goes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from ouzel_protos.v1 import explain_pb2 as pb

STAGES = ("decode", "preprocess", "copy", "compute", "encode")


@dataclass
class Stages:
    """Seconds by stage. Each `lap` is counted from the one before, so that together they are all of the time.

    Attributes:
        seconds: By stage, one of STAGES.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def __post_init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap. stage: what it was spent on.

        A GPU is not waited for: what it still has to do counts for the stage that waits for it, until `move`.
        """
        now = time.perf_counter()
        self.seconds[stage] += now - self._since
        self._since = now

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count so much of one stage's time for another: what a device did for that while the host waited in this."""
        seconds = min(seconds, self.seconds[source])
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    def share(self, parts: Iterable[Stages]) -> None:
        """Count the time since the last lap, in which several were at work side by side, by what each stage took them.

        Args:
            parts: What each of them took.
        """
        sums = dict.fromkeys(STAGES, 0.0)
        for part in parts:
            for stage, seconds in part.seconds.items():
                sums[stage] += seconds
        now = time.perf_counter()
        for stage, seconds in sums.items():
            self.seconds[stage] += (now - self._since) * seconds / sum(sums.values())
        self._since = now

    def message(self, batch_size: int) -> pb.Timing:
        """As the wire has it; the total is the sum."""
        named = {f"{stage}_ms": seconds * 1e3 for stage, seconds in self.seconds.items()}
        return pb.Timing(**named, total_ms=sum(self.seconds.values()) * 1e3, batch_size=batch_size)
