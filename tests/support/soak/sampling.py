"""Memory, handles and threads of all processes of the services, and whether they grow."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import psutil

MIB = 2**20
MOST_MIB = 100.0  # that all lasting processes may grow together, and each alone
MOST_MORE = 8  # handles or threads that one process may have more at the end: a leak in one of thousands of calls shows


@dataclass(frozen=True)
class Sample:
    """One process at one moment.

    Attributes:
        second: Since the load began.
        pid: Of the process.
        began: When the process began, in seconds since the epoch.
        role: What it is.
        rss: Mebibytes of memory, shared ones included.
        anonymous: Mebibytes that are of no file, those included that forked children still share. What a process has
            for itself alone would grow when a child ends, and fall when one begins.
        pss: Its own, and its share of what it shares: these add up.
        handles: Open file descriptors.
        threads: Of the process.
    """

    second: float
    pid: int
    began: float
    role: str
    rss: float
    anonymous: float
    pss: float
    handles: int
    threads: int


def role(process: psutil.Process) -> str:
    """What a process of the services is, by its command."""
    name, words = process.name(), process.cmdline()
    if name.startswith("ouzel"):  # those that are forked name themselves
        return name
    if "java" in Path(words[0]).name if words else False:
        return "java"
    for word in words:
        if word.startswith("ouzel.") or word.endswith(".py"):
            return word.removeprefix("ouzel.").rpartition("/")[2]
    return " ".join(words)[-40:] if words else name


def anonymous(pid: int) -> float:
    """Mebibytes of a process that are of no file. Raises OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"process {pid} has ended")


def look(processes: Iterable[psutil.Process], second: float) -> list[Sample]:
    """Those that run, each once."""
    found: dict[int, Sample] = {}
    for process in processes:
        try:
            memory = process.memory_full_info()
            found[process.pid] = Sample(
                round(second, 1), process.pid, round(process.create_time(), 2), role(process),
                memory.rss / MIB, anonymous(process.pid), memory.pss / MIB, process.num_fds(), process.num_threads(),
            )  # fmt: skip
        except (psutil.Error, OSError):  # ended meanwhile
            continue
    return list(found.values())


class Sampler:
    """Samples every few seconds and writes each into a table at once.

    Args:
        processes: Gives those that run now.
        path: Of the table.
    """

    def __init__(self, processes: Callable[[], Iterable[psutil.Process]], path: Path) -> None:
        self._processes, self._path = processes, path
        self._began = time.monotonic()
        self.samples: list[Sample] = []
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(each.name for each in fields(Sample))

    def sample(self) -> None:
        found = look(self._processes(), time.monotonic() - self._began)
        self.samples += found
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerows(astuple(each) for each in found)


@dataclass(frozen=True)
class Growth:
    """How one process, or all together, grew from the end of the warm-up to the end.

    Attributes:
        role: Of the process.
        pid: Of the process; 0 for all together.
        before: rss, anonymous, pss at rest, and handles and threads, at first.
        after: At last.
    """

    role: str
    pid: int
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def more(self) -> tuple[float, ...]:
        return tuple(b - a for a, b in zip(self.before, self.after, strict=True))


_MEASURES = ("rss", "anonymous", "pss", "handles", "threads")


def growth(samples: Sequence[Sample], warm: float, window: float) -> list[Growth]:
    """Of each process that was there all the time since the warm-up; last comes what all of them, and those that come
    and go, have at a time.

    Args:
        samples: All of them.
        warm: Seconds that do not count.
        window: Seconds at either end that are compared.
    """
    last = max(each.second for each in samples)
    first_window = [each for each in samples if warm <= each.second <= warm + window]
    last_window = [each for each in samples if each.second >= last - window]
    found = []
    ids = {(each.pid, each.began, each.role) for each in first_window}
    for pid, began, kind in sorted(ids, key=lambda each: (each[2], each[0])):
        early = [each for each in first_window if (each.pid, each.began) == (pid, began)]
        late = [each for each in last_window if (each.pid, each.began) == (pid, began)]
        seconds = {each.second for each in first_window} | {each.second for each in last_window}
        if len(early) + len(late) == len(seconds):
            found.append(Growth(kind, pid, _typical(early), _typical(late)))
    return [*found, Growth("all together", 0, _typical(_sums(first_window)), _typical(_sums(last_window)))]


def _sums(samples: Sequence[Sample]) -> list[Sample]:
    """All processes together, at each moment."""
    found = []
    for second in sorted({each.second for each in samples}):
        at_once = [each for each in samples if each.second == second]
        columns = zip(*(tuple(getattr(each, name) for name in _MEASURES) for each in at_once), strict=True)
        rss, own, pss, handles, threads = map(sum, columns)
        found.append(Sample(second, 0, 0.0, "all together", rss, own, pss, int(handles), int(threads)))
    return found


def _typical(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Memory at rest: what a batch takes for a while is no growth, so the lowest tenth counts; medians of the rest."""
    memory = [quantile([getattr(each, name) for each in samples], 0.1) for name in _MEASURES[:3]]
    counts = [float(statistics.median(getattr(each, name) for each in samples)) for name in _MEASURES[3:]]
    return (*memory, *counts)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them is."""
    return sorted(values)[int(share * (len(values) - 1))]


def faults(found: Sequence[Growth]) -> list[str]:
    """What does not hold."""
    said = []
    for each in found:
        _, own, pss, handles, threads = each.more
        who = f"{each.role} {each.pid or ''}".strip()
        grown = own if each.pid else pss  # shares of a process depend on how many it shares with; their sum does not
        if grown >= MOST_MIB:
            said.append(f"{who}: grew by {grown:.0f} MiB")
        if each.pid and max(handles, threads) > MOST_MORE:
            said.append(f"{who}: has {handles:+.0f} handles, {threads:+.0f} threads")
    return said


def table(found: Sequence[Growth]) -> str:
    lines = ["| process | anonymous before | after | growth (MiB) | PSS growth | RSS growth | handles | threads |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for each in found:
        rss, own, pss, _, _ = each.more
        counts = [f"{each.before[place]:.0f} to {each.after[place]:.0f}" for place in (3, 4)]
        memory = [f"{each.before[1]:.0f}", f"{each.after[1]:.0f}", f"{own:+.1f}", f"{pss:+.1f}", f"{rss:+.1f}"]
        lines.append(f"| {' | '.join([each.role, *memory, *counts])} |")
    return "\n".join(lines)
