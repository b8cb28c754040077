"""Versions that many TorchServes serve, each with an agent beside it: served is what a quorum of them has tried.

The agents follow the model store. So a version comes to them by being there, and the default changes by one write of
the store: nothing here calls a TorchServe. What agents tell lies in the store, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ouzel.checks import at_least
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.registry.record import ModelRecord
from ouzel.registry.registry import Registry
from ouzel.registry.reports import AgentReport, Serves, parse_reports
from ouzel.torchserve.changes import Record, Withdrawal, nothing, promoted, undone_on_failure
from ouzel.torchserve.errors import PublicationFailed, ServerUnreachable

RECENT = 60.0  # s for which a report counts where nobody can wait for the next one
_SILENCE = 60.0  # s after which an agent that tells nothing is not hoped for where others cannot serve a version
PAUSE = 0.5  # s between two looks


@dataclass(frozen=True)
class Standing:
    """How far the agents are with a version.

    Attributes:
        served: The nodes that serve it.
        failed: Why it cannot be served, by node.
        behind: Nodes whose agents have not come to it, or whose TorchServe does not run.
        silent: Nodes whose agents have told nothing since the first look.
    """

    served: tuple[str, ...]
    failed: Mapping[str, str]
    behind: tuple[str, ...]
    silent: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.served)} serve it"]
        if self.behind:
            parts.append(f"{', '.join(self.behind)} not yet")
        if self.silent:
            parts.append(f"nothing is heard of {', '.join(self.silent)}")
        parts += [f"{node}: {error}" for node, error in sorted(self.failed.items())]
        return "; ".join(parts)


class Agents:
    """The agents of a model store.

    An agent counts once it has told something new since the first look: what a dead one has left says nothing. No
    clock is compared with another one.

    Args:
        registry: The store, where they tell what they serve.
        quorum: How many must serve a version.

    Raises:
        InvalidArgument: The quorum is less than 1.
    """

    def __init__(self, registry: Registry, quorum: int) -> None:
        at_least("serving_quorum", quorum, 1)
        self.registry, self.quorum = registry, quorum
        self._since = time.monotonic()
        self._first: dict[str, str] = {}
        self._alive: set[str] = set()

    def reports(self) -> tuple[AgentReport, ...]:
        """What all agents have told last, those that are gone among them. Raises StorageAway."""
        return parse_reports(self.registry.reports())

    def standing(self, name: str, version: str) -> Standing:
        """How far they are with a version.

        Raises:
            NotFound: There is no such version.
            StorageAway: The store does not answer.
        """
        sha256 = (self.registry.record(name) or ModelRecord(name)).require(version).sha256
        served, failed, behind, silent = [], {}, [], []
        for report in self.reports():
            if not self._counts(report):
                silent.append(report.node)
                continue
            told = report.of(name, version, sha256)
            if told is not None and told.state is Serves.FAILED:
                failed[report.node] = told.error
            elif told is not None and told.state is Serves.SERVED and report.serving:
                served.append(report.node)
            else:
                behind.append(report.node)
        return Standing(tuple(served), failed, tuple(behind), tuple(silent))

    def require(self, file: ModelFile) -> Standing:
        """Checks that a quorum serves a version.

        Raises:
            ServerUnreachable: Not yet: agents are behind, or too few are heard of.
            PublicationFailed: It cannot come to that, because too many of those that are heard of cannot serve it.
        """
        found = self.standing(file.name, file.version)
        if len(found.served) >= self.quorum:
            return found
        what = f"{file.name} {file.version} is to be served by {self.quorum} agents"
        waited = time.monotonic() - self._since
        hoped = len(found.served) + len(found.behind) + (len(found.silent) if waited < _SILENCE else 0)
        if found.failed and hoped < self.quorum:
            raise PublicationFailed(f"{what}, and cannot: {found}")
        record = self.registry.record(file.name)
        if record is not None and file.version not in record.wanted:
            self.registry.want(file.name, file.version)
        raise ServerUnreachable(f"{what}: {found}")

    def _counts(self, report: AgentReport) -> bool:
        if self._first.setdefault(report.node, report.beat) != report.beat:
            self._alive.add(report.node)
        return report.node in self._alive


def served_by_quorum(reports: tuple[AgentReport, ...], quorum: int, now: float) -> frozenset[tuple[str, str]]:
    """(name, version) of what so many agents serve, by reports that are recent. For people: clocks may differ."""
    counts: dict[tuple[str, str], int] = {}
    for report in reports:
        if not report.serving or now - report.seen > RECENT:
            continue
        for name, versions in report.versions.items():
            for version, told in versions.items():
                if told.state is Serves.SERVED:
                    counts[name, version] = counts.get((name, version), 0) + 1
    return frozenset(each for each, count in counts.items() if count >= quorum)


def publish_to_agents(
    agents: Agents,
    store: ModelFiles,
    name: str,
    version: str,
    *,
    promote: Callable[[], bool] = lambda: False,
    withdraw_failed: bool = False,
    record: Record = nothing,
) -> bool:
    """Sees whether a quorum serves a version of the store, and then makes it the default if asked to.

    The call may be repeated, and is to be repeated on ServerUnreachable: it does not wait.

    Args:
        agents: Of the store.
        store: The model store, which has the version already.
        name: The model's name.
        version: The new version.
        promote: Whether it becomes the default. Asked once the quorum has it.
        withdraw_failed: Whether a version that cannot be served, or could not be recorded, is removed from the store.
            It stays if it has been made the default before.
        record: Hears of the publication and the promotion while they can still be undone.

    Returns:
        Whether it is served: False of a version that a gate held back if there is no default and it does not become
        one, for TorchServe would take the first version that it loads for it.

    Raises:
        ServerUnreachable: The quorum does not have it yet.
        OutcomeUnknown: The storage went away while it was made the default.
        OuzelError: One line that says why it is not served.
    """
    file = store.file(f"{name}@{version}")
    if store.default_of(store.of(name)) is None and not promote():
        return False
    with undone_on_failure() as undo:
        withdrawal = Withdrawal(store, file, record, wanted=withdraw_failed)
        undo.push(withdrawal)
        if file.error:
            raise PublicationFailed(f"{name} {version} cannot be served: {file.error}")
        nodes = list(agents.require(file).served)
        withdrawal.published(served=True, agents=nodes)
        if promote():
            promoted(undo, record, store, file)
    return True


def promote_on_agents(
    agents: Agents, store: ModelFiles, name: str, version: str, *, seconds: float, record: Record = nothing
) -> None:
    """Makes a version the default once a quorum serves it.

    Args:
        agents: Of the store.
        store: The model store.
        name: The model's name.
        version: The version.
        seconds: How long the quorum is waited for.
        record: Hears of it while it can still be undone.

    Raises:
        ServerUnreachable: The quorum does not serve it after that time. The default is the one from before.
        OuzelError: One line that says why not.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            promote_if_served(agents, store, name, version, record=record)
            return
        except ServerUnreachable:
            if time.monotonic() >= end:
                raise
        time.sleep(PAUSE)


def promote_if_served(agents: Agents, store: ModelFiles, name: str, version: str, *, record: Record = nothing) -> None:
    """Makes a version the default if a quorum serves it now, and has it loaded if not.

    The call may be repeated, and is to be repeated on ServerUnreachable: it does not wait.

    Args:
        agents: Of the store.
        store: The model store.
        name: The model's name.
        version: The version.
        record: Hears of it while it can still be undone.

    Raises:
        ServerUnreachable: The quorum does not serve it yet. The default is the one from before.
        OuzelError: One line that says why not.
    """
    file = store.file(f"{name}@{version}")  # what is recorded is what the quorum serves: it may have been replaced
    agents.require(file)
    with undone_on_failure() as undo:
        promoted(undo, record, store, file)
