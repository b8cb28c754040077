"""What the caller has used, and what a job will probably cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Quote:
    """What a job will probably cost, from jobs like it that were measured.

    Attributes:
        low: Seconds of running, over all attempts: 10 % of the measured jobs took less for as much work.
        likely: Half of them did.
        high: 90 % of them did.
        gpus: GPU seconds for each of these seconds; less than 1 is a share of a GPU.
        jobs: How many were measured.
    """

    low: float
    likely: float
    high: float
    gpus: float
    jobs: int


@dataclass(frozen=True)
class DayUsage:
    """What was used on one day by jobs of one kind.

    Attributes:
        day: Of UTC.
        kind: Of the jobs.
        seconds: That jobs ran.
        gpu_seconds: That jobs ran on GPUs, once for each GPU.
        succeeded: Jobs that ended so on this day; one that was retried ends again.
        failed: Likewise.
        cancelled: Likewise.
    """

    day: date
    kind: str
    seconds: float
    gpu_seconds: float
    succeeded: int
    failed: int
    cancelled: int


@dataclass(frozen=True)
class QuotaUsage:
    """A quota that the worker's operator has set.

    Attributes:
        name: "seconds_per_day", "gpu_seconds_per_day", "stored_bytes", "running" or "queued".
        used: Of it.
        limit: What may be used.
    """

    name: str
    used: float
    limit: float


@dataclass(frozen=True)
class Usage:
    """What the caller has used.

    Attributes:
        days: Newest first, a row for each day and kind.
        artifact_bytes: Files that jobs have left behind.
        dataset_bytes: Files of data sets.
        reserved_bytes: Announced by uploads that are on their way.
        quotas: Those that there are.
    """

    days: tuple[DayUsage, ...]
    artifact_bytes: int
    dataset_bytes: int
    reserved_bytes: int
    quotas: tuple[QuotaUsage, ...]
