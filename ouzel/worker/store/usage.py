"""What owners have used, by UTC day and kind of job, as parts of the transactions in which it happens.

Seconds of running are counted with the job's own running time, in one transaction: what the job says already was
counted is never counted again, however often a supervisor says it. A day's seconds are those that were told on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ouzel.errors import ResourceExhausted
from ouzel.worker.store.database import Connection
from ouzel.worker.store.job import LEASED, Job, State
from ouzel.worker.store.limits import Limits

DAY = 86_400.0
_WAITING = (State.QUEUED, State.PAUSED)
_COLUMNS = ("seconds", "gpu_seconds", "succeeded", "failed", "cancelled")
_OUTCOMES = {State.SUCCEEDED: "succeeded", State.FAILED: "failed", State.CANCELLED: "cancelled"}


@dataclass(frozen=True)
class Used:
    """What an owner has used.

    Attributes:
        owner: Whose.
        day: "2027-01-31", of UTC.
        kind: Of the jobs.
        seconds: That jobs ran.
        gpu_seconds: That jobs ran on GPUs, once for each GPU.
        succeeded: Jobs that ended so.
        failed: Likewise.
        cancelled: Likewise.
    """

    owner: str
    day: str
    kind: str
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True)
class Today:
    """What an owner has used since 00:00 UTC, and which jobs there are.

    Attributes:
        seconds: That jobs ran.
        gpu_seconds: That jobs ran on GPUs.
        running: Jobs that run, each as often as it takes slots.
        queued: Jobs that wait.
        left: Seconds until the next day begins.
    """

    seconds: float
    gpu_seconds: float
    running: int
    queued: int
    left: float


def day_of(time: float) -> str:
    """The UTC day of a time in seconds since the epoch."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")


def count(c: Connection, job: Job, ran: float, gpus: float) -> None:
    """Notes that a job has run for so long by now, over all attempts; in each of its slots. Its row must be locked."""
    if (more := ran - job.ran) > 0:
        c.run("UPDATE jobs SET ran = ? WHERE id = ?", ran, job.id)
        _add(c, job, seconds=more * job.slots, gpu_seconds=more * gpus)


def ended(c: Connection, job: Job) -> None:
    """Notes how a job has ended."""
    _add(c, job, **{_OUTCOMES[job.state]: 1})


def read(c: Connection, owner: str | None, days: int) -> list[Used]:
    """Reads what was used in the last days, today included; newest first. owner: None for all."""
    since = _day(c, days - 1)
    whose, values = ("", ()) if owner is None else (" AND owner = ?", (owner,))
    columns = ", ".join(_COLUMNS)
    rows = c.all(
        f"SELECT owner, day, kind, {columns} FROM usage WHERE day >= ?{whose} ORDER BY day DESC, owner, kind",
        since,
        *values,
    )
    return [Used(*row) for row in rows]


def today(c: Connection) -> Mapping[str, tuple[float, float]]:
    """Seconds and GPU seconds of today, by owner."""
    sql = "SELECT owner, SUM(seconds), SUM(gpu_seconds) FROM usage WHERE day = ? GROUP BY owner"
    return {owner: (float(seconds), float(gpu)) for owner, seconds, gpu in c.all(sql, _day(c))}


def today_of(c: Connection, owner: str) -> Today:
    """Reads what one owner has used today."""
    seconds, gpu = _seconds(c, owner)
    counts = [
        (c.one(f"SELECT {what} FROM jobs WHERE owner = ? AND state IN ({_list(states)})", owner) or (0,))[0]
        for what, states in (("COALESCE(SUM(slots), 0)", LEASED), ("COUNT(*)", _WAITING))
    ]
    return Today(seconds, gpu, int(counts[0]), int(counts[1]), _left(c))


def check(c: Connection, owner: str, limits: Limits) -> None:
    """Refuses a job of an owner whose day is used up. Raises ResourceExhausted."""
    if not limits.daily:
        return
    seconds, gpu = _seconds(c, owner)
    if (spent := limits.spent(seconds, gpu)) is not None:
        name, used, limit = spent
        left = _left(c)
        raise ResourceExhausted(
            f"{name}: {used:.0f} s of {limit:.0f} s are used; the next day begins in {left:.0f} s, at 00:00 UTC",
            retry_after=left,
        )


def artifact_bytes(c: Connection) -> Mapping[str, int]:
    """Size of the artifacts of each owner's jobs; one that several of them have counts once."""
    sql = (
        "SELECT owner, SUM(size) FROM (SELECT DISTINCT owner, sha256, size FROM artifacts "
        "JOIN jobs ON jobs.id = artifacts.job) AS kept GROUP BY owner"
    )
    return {owner: int(size) for owner, size in c.all(sql)}


def artifact_bytes_of(c: Connection, owner: str) -> int:
    """The same of one owner."""
    sql = (
        "SELECT SUM(size) FROM (SELECT DISTINCT sha256, size FROM artifacts "
        "JOIN jobs ON jobs.id = artifacts.job WHERE owner = ?) AS kept"
    )
    row = c.one(sql, owner)
    return 0 if row is None or row[0] is None else int(row[0])


def _add(c: Connection, job: Job, **more: float) -> None:
    values = [more.get(name, 0) for name in _COLUMNS]
    sums = ", ".join(f"{name} = usage.{name} + excluded.{name}" for name in _COLUMNS)
    c.run(
        f"INSERT INTO usage (day, owner, kind, {', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        f"ON CONFLICT (day, owner, kind) DO UPDATE SET {sums}",
        _day(c),
        job.owner,
        job.kind,
        *values,
    )


def _seconds(c: Connection, owner: str) -> tuple[float, float]:
    row = c.one("SELECT SUM(seconds), SUM(gpu_seconds) FROM usage WHERE day = ? AND owner = ?", _day(c), owner)
    return (0.0, 0.0) if row is None or row[0] is None else (float(row[0]), float(row[1]))


def _day(c: Connection, back: int = 0) -> str:
    return (datetime.fromtimestamp(c.now(), UTC) - timedelta(days=back)).strftime("%Y-%m-%d")


def _left(c: Connection) -> float:
    return DAY - c.now() % DAY


def _list(states: Iterable[State]) -> str:
    return ", ".join(str(int(each)) for each in states)
