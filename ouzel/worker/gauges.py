"""What is looked at when a worker's numbers are read: jobs, slots, audits, disks and the log."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ouzel.errors import OuzelError
from ouzel.ledger import Ledger
from ouzel.registry.reports import AgentReport, Serves
from ouzel.worker.auditing.pool import AuditPool
from ouzel.worker.runner.runner import Runner
from ouzel.worker.store.protocol import Statistics, Store

T = TypeVar("T")
_log = logging.getLogger(__name__)
_FRESH = 2.0  # s for which the database is not asked again, however many read
_MOST_OWNERS = 100
_AGENTS_FRESH = 10.0  # s, for what takes a request for each agent
_SIZES_FRESH = 300.0  # s, for what takes a walk through many files


@dataclass(frozen=True)
class Looked:
    """What is looked at.

    Attributes:
        store: Holds the jobs.
        runner: Runs them.
        pool: Of audits.
        ledger: The log; None without one.
        uploads: Tells the size of the data sets in bytes.
        folders: Those on whose disks there must be room, by what they are for.
        agents: Gives what serving agents tell; None without agents.
    """

    store: Store
    runner: Runner
    pool: AuditPool
    ledger: Ledger | None
    uploads: Callable[[], int]
    folders: Mapping[str, Path]
    agents: Callable[[], Sequence[AgentReport]] | None = None


class WorkerGauges(Collector):
    """See the module. What cannot be had is left out, and said in the log.

    Args:
        looked: At what.
    """

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        self._statistics = _Kept(looked.store.statistics, _FRESH)
        self._used = _Kept(looked.store.today, _FRESH)
        self._artifacts = _Kept(looked.store.artifact_bytes, _SIZES_FRESH)
        self._uploads = _Kept(looked.uploads, _SIZES_FRESH)
        self._agents = None if looked.agents is None else _Kept(looked.agents, _AGENTS_FRESH)

    def describe(self) -> Iterator[Metric]:
        """Nothing: else it would be looked at when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now."""
        looked = self._looked
        try:
            yield from _jobs(self._statistics.value())
            yield _used(self._used.value())
            yield _gauge("artifact_bytes", "Files that jobs have left behind.", self._artifacts.value())
            up = 1
        except OuzelError as error:
            _log.warning("the jobs are not counted: %s", error)
            up = 0
        yield _gauge("store_up", "Whether the job store answers.", up)
        try:
            yield _gauge("dataset_bytes", "Files of the callers' data sets.", self._uploads.value())
        except OuzelError as error:
            _log.warning("the data sets are not counted: %s", error)
        yield _gauge("slots", "Jobs that may run at a time.", looked.runner.slots)
        yield _gauge("slots_busy", "Jobs that run here.", looked.runner.running)
        audits = _family("audits", "Audits of single predictions.", "state")
        for state, count in (("running", looked.pool.running), ("waiting", looked.pool.waiting)):
            audits.add_metric([state], count)
        yield audits
        disks = _family("disk_free_bytes", "Room on the disk of a folder.", "folder")
        for name, folder in looked.folders.items():
            if (free := _free(folder)) is not None:
                disks.add_metric([name], free)
        yield disks
        if self._agents is not None:
            try:
                yield from _serving(self._agents.value())
            except OuzelError as error:
                _log.warning("the serving agents are not counted: %s", error)
        if looked.ledger is not None:
            try:
                yield from _ledger(looked.ledger)
            except OuzelError as error:
                _log.warning("the entries of the log are not counted: %s", error)


def _jobs(known: Statistics) -> Iterator[Metric]:
    jobs = _family("jobs", "Jobs in the store, which all its workers tell alike.", "state", "kind")
    for (state, kind), count in known.jobs.items():
        jobs.add_metric([state, kind], count)
    yield jobs
    yield _gauge("queue_oldest_seconds", "Since the job that has waited longest was queued.", known.oldest_queued)


def _used(known: Mapping[str, tuple[float, float]]) -> Metric:
    """Of the owners who have used most, so that many owners do not become as many series."""
    words = "What owners have used since 00:00 UTC, which all workers of a store tell alike."
    used = _family("used_today_seconds", words, "owner", "resource")
    for owner, (seconds, gpu_seconds) in sorted(known.items(), key=lambda each: (-each[1][0], each[0]))[:_MOST_OWNERS]:
        used.add_metric([owner, "running"], seconds)
        used.add_metric([owner, "gpu"], gpu_seconds)
    return used


def _serving(reports: Sequence[AgentReport]) -> Iterator[Metric]:
    seen = _family("serving_agent_seen_seconds", "Since a serving agent was last heard of.", "node")
    up = _family("serving_agent_torchserve_up", "Whether TorchServe answers the agent.", "node")
    versions = _family("serving_agent_versions", "Versions of models on a node.", "node", "state")
    for report in reports:
        seen.add_metric([report.node], max(time.time() - report.seen, 0.0))
        up.add_metric([report.node], float(report.serving))
        counts = Counter(each.state for of in report.versions.values() for each in of.values())
        for state in Serves:
            versions.add_metric([report.node, state.value], counts[state])
    yield from (seen, up, versions)


def _ledger(ledger: Ledger) -> Iterator[Metric]:
    entries, pending, age = ledger.state()
    yield _gauge("ledger_entries", "Entries of the log that have their place in it.", entries)
    yield _gauge("ledger_pending", "Entries that are not published yet.", pending)
    if age is not None:
        words = "Since the published checkpoint was last seen to hold all entries."
        yield _gauge("ledger_checkpoint_age_seconds", words, age)


class _Kept(Generic[T]):
    """A value that is asked for again only after some time."""

    def __init__(self, ask: Callable[[], T], fresh: float) -> None:
        self._ask, self._fresh = ask, fresh
        self._lock = threading.Lock()
        self._known: tuple[float, T] | None = None

    def value(self) -> T:
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] >= self._fresh:
                self._known = time.monotonic(), self._ask()
            return self._known[1]


def _family(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ouzel_worker_{name}", words, labels=labels)


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ouzel_worker_{name}", words, value=value)


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
