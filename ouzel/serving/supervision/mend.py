"""What `ouzel up` does where services run already: their supervisor starts at once what is missing."""

from __future__ import annotations

import time
from pathlib import Path

from ouzel.serving import processes
from ouzel.serving.errors import AlreadyRunning, StartFailed
from ouzel.serving.supervision import journal
from ouzel.serving.supervision.status import Part, State, status

_MISSING = (State.DOWN, State.RESTARTING)
_POLL = 0.2


def mend(state: Path, timeout: float) -> tuple[Part, ...]:
    """Has the parts that are missing started, and waits until they serve.

    Args:
        state: The state folder.
        timeout: How long, in seconds.

    Returns:
        The parts that were missing.

    Raises:
        AlreadyRunning: A part lives but does not answer; only time or `ouzel down` helps.
        StartFailed: A part does not serve in time.
    """
    watch = journal.read(state)
    if watch is None or not watch.alive:
        return ()
    parts = _parts(state)
    missing = {name for name, part in parts.items() if part.state in _MISSING}
    if not missing:
        silent = [part for part in parts.values() if part.state is State.SILENT]
        if silent:
            names = ", ".join(f"{part.name} (process {part.pids[0]})" for part in silent)
            raise AlreadyRunning(
                f"already running, but without an answer from {names}: started again after {watch.hung_after:g} s of "
                "that; `ouzel down` and `ouzel up` start all anew"
            )
        return ()
    journal.nudge(watch)
    deadline = time.monotonic() + timeout
    while True:
        parts = _parts(state)
        if all(parts[name].well for name in missing if name in parts):
            return tuple(parts[name] for name in missing if name in parts)
        if time.monotonic() > deadline:
            late = next(parts[name] for name in missing if name in parts and not parts[name].well)
            raise StartFailed(
                f"{late.name} does not serve after {timeout:g} s ({late.state}: {late.note}); "
                "`ouzel logs supervisor` says more"
            )
        time.sleep(_POLL)


def _parts(state: Path) -> dict[str, Part]:
    services = status(state)
    wanted = (processes.TORCHSERVE, processes.WORKER, processes.GATEWAY)
    return {part.name: part for part in services.parts if part.name in wanted} if services else {}
