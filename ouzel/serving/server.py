"""Starts and stops the services of a state folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ouzel.serving import front_door, job_worker, launch, processes, saved_options, state_folder
from ouzel.serving.loading import Tell
from ouzel.serving.options import ServingOptions
from ouzel.serving.running import RunningServing
from ouzel.serving.supervision import journal

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def start(options: ServingOptions, tell: Tell | None = None, *, take_over: bool = False) -> Iterator[RunningServing]:
    """Starts services, yields them once every model has answered a request, and stops them all at the end.

    Args:
        options: What to start, and how.
        tell: Called when a model begins to load, and when it is ready.
        take_over: Whether what a killed run has left alive is kept, with the options it was started with, and only what
            is missing is started; else all of it is stopped first.

    Raises:
        NotFound, InvalidArgument: A model is missing or cannot be served.
        AlreadyRunning: Services of the state folder run, or are being started.
        FailedPrecondition: A port is in use, or something is not installed.
        StartFailed: The services did not become ready. Only what ran before is left running.
    """
    with _exclusive(options, take_over=take_over) as (_, holding, left):
        serving = None
        try:
            serving = _start(holding, tell)
            yield serving
        finally:
            if serving or not left:
                state_folder.clear(options.state, grace=processes.GRACE if serving else 0)
            if serving:
                serving.poll()  # takes the exit status, without which the process stays a zombie


def start_detached(options: ServingOptions, tell: Tell | None = None) -> RunningServing:
    """As `start` that takes over, but the services stay until `stop`, also after this process has ended.

    A supervisor in the background starts again what dies or hangs.

    Args:
        options: What to start, and how.
        tell: Called when a model begins to load, and when it is ready.

    Raises:
        OuzelError: As `start`.
    """
    with _exclusive(options, take_over=True) as (lock, holding, left):
        try:
            serving = _start(holding, tell)
            journal.spawn(options.state, lock)
            return serving
        except BaseException:
            if not left:
                state_folder.clear(options.state, grace=0)
            raise


def stop(state: Path) -> bool:
    """Stops all services of a state folder, also those that another command started.

    The supervisor ends first, so that it does not start again what is being stopped.

    Args:
        state: The state folder.

    Returns:
        Whether anything ran.
    """
    if not state.is_dir():
        return False
    supervised = journal.end(state)
    ran = state_folder.clear(state)
    state_folder.wait_unlocked(state)
    return ran or supervised


@contextlib.contextmanager
def _exclusive(options: ServingOptions, *, take_over: bool) -> Iterator[tuple[int, ServingOptions, bool]]:
    """Holds the lock of the state folder.

    Yields the lock, the options that apply, and whether services of an earlier run are kept; else the folder is clear
    of what such a run has left.
    """
    state = options.state
    state_folder.prepare(state)
    with state_folder.locked(state) as lock:
        kept = saved_options.read(state) if take_over and _left(state) else None
        if kept is None and state_folder.clear(state):
            logger.warning("stopped services that an earlier run had left behind in %s", state)
        yield lock.fileno(), kept or options, kept is not None


def _left(state: Path) -> bool:
    worker = state_folder.running_worker(state)
    ours = worker and worker["pid"] in {each.pid for each in processes.belonging_to(state, processes.WORKER)}
    return state_folder.running(state) is not None or bool(ours) or state_folder.running_gateway(state) is not None


def _start(options: ServingOptions, tell: Tell | None) -> RunningServing:
    """Starts what does not run yet."""
    state, recorded = options.state, state_folder.running(options.state)
    kept: tuple[str, ...] = (processes.TORCHSERVE,) if recorded else ()
    door = state_folder.running_gateway(state) if options.gateway else None
    # It comes up beside TorchServe, which takes longer.
    opening = front_door.begin(options) if options.gateway and door is None else None
    try:
        serving = (
            RunningServing.found(recorded, state / state_folder.LOG)
            if recorded
            else launch.start_torchserve(options, tell)
        )
        if options.worker:
            kept += (processes.WORKER,) if state_folder.running_worker(state) else ()
            worker = job_worker.start(options)
            serving = replace(serving, worker=worker["grpc"] if worker else "")
        if opening is not None:
            door = opening.wait()
        elif door is not None:
            kept += (processes.GATEWAY,)
        serving = replace(serving, gateway=None if door is None else (door["rest"], door["grpc"]))
        saved_options.write(replace(options, worker=bool(serving.worker), gateway=door is not None))
        if not recorded:
            launch.record(serving, options)
    except BaseException:
        if opening is not None:
            processes.stop(state, 0, processes.GATEWAY)
            opening.process.wait()
        if not recorded:
            state_folder.clear_torchserve(state)
        raise
    return replace(serving, kept=kept)
