"""How much one owner may have: jobs at once, seconds of a day, bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Limits:
    """Limits of one owner.

    Attributes:
        queued: Jobs that wait (QUEUED, PAUSED).
        running: Jobs that run at a time, over all workers; one that takes several slots counts as so many.
        seconds_per_day: Seconds of running on one UTC day; None for no limit, as of those below.
        gpu_seconds_per_day: The same of GPUs.
        stored_bytes: Of data sets and artifacts.
    """

    queued: int = 1000
    running: int = 64
    seconds_per_day: float | None = None
    gpu_seconds_per_day: float | None = None
    stored_bytes: int | None = None

    @property
    def daily(self) -> bool:
        """Whether a day can be used up."""
        return self.seconds_per_day is not None or self.gpu_seconds_per_day is not None

    def of(self, owner: str) -> Limits:
        """These, of any owner: see `EachLimits`."""
        return self

    def spent(self, seconds: float, gpu_seconds: float, gpus: float = 1) -> tuple[str, float, float] | None:
        """The quota of the day that is used up.

        Args:
            seconds: That were used today.
            gpu_seconds: That were used today.
            gpus: That a job would have: without any, GPU seconds do not matter.

        Returns:
            Its name, what is used and the limit; None if a job may run.
        """
        if self.seconds_per_day is not None and seconds >= self.seconds_per_day:
            return "seconds_per_day", seconds, self.seconds_per_day
        if gpus and self.gpu_seconds_per_day is not None and gpu_seconds >= self.gpu_seconds_per_day:
            return "gpu_seconds_per_day", gpu_seconds, self.gpu_seconds_per_day
        return None


class EachLimits(Protocol):
    """The limits of each owner."""

    def of(self, owner: str) -> Limits:
        """Those of one."""


@dataclass(frozen=True)
class OwnerLimits:
    """Limits that some owners have of their own.

    Attributes:
        default: Of all others.
        owners: By the owner's name.
    """

    default: Limits = field(default_factory=Limits)
    owners: Mapping[str, Limits] = field(default_factory=dict)

    def of(self, owner: str) -> Limits:
        """See `EachLimits`."""
        return self.owners.get(owner, self.default)
