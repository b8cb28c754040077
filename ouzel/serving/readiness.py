"""Waits until TorchServe and its models answer, and says why if one does not."""

from __future__ import annotations

import time
from pathlib import Path

from ouzel.serving import state_folder
from ouzel.serving.errors import StartFailed
from ouzel.serving.running import RunningServing
from ouzel.torchserve import log, rest

_POLL = 0.1  # seconds between two questions
_LAST_LINES = 1.0  # seconds that the log gets to be complete after a worker died
PATIENCE = "--timeout SECONDS or OUZEL_TIMEOUT gives it longer"


def wait(serving: RunningServing, timeout: float) -> None:
    """Waits until TorchServe answers.

    Args:
        serving: The TorchServe.
        timeout: How long, in seconds.

    Raises:
        StartFailed: It ended, or did not answer in time.
    """
    deadline = time.monotonic() + timeout
    while not _answers(serving):
        _check_process(serving)
        if time.monotonic() > deadline:
            raise StartFailed(f"TorchServe was not ready after {timeout:g} s ({PATIENCE}); the log is {serving.log}")
        time.sleep(_POLL)


def _answers(serving: RunningServing) -> bool:
    try:
        status, _ = rest.call("GET", f"{serving.management}/models?limit=1", serving.management_token)
    except (FileNotFoundError, ValueError, rest.Unreachable):  # no key file yet, half a key file, no listener yet
        return False
    return status == 200


def wait_for_model(serving: RunningServing, model: str, version: str, workers: int, timeout: float) -> None:
    """Waits until a version has its workers and one of them has answered a request.

    Args:
        serving: The TorchServe.
        model: Name of the model.
        version: Its version.
        workers: How many must be ready.
        timeout: How long, in seconds.

    Raises:
        StartFailed: A worker died while it loaded, TorchServe ended, or the time is over.
    """
    deadline = time.monotonic() + timeout
    while not _loaded(serving, model, version, workers):
        _check(serving, model, version)
        if time.monotonic() > deadline:
            raise StartFailed(
                f"model {model} {version} was not ready after {timeout:g} s ({PATIENCE}); the log is {serving.log}"
            )
        time.sleep(_POLL)
    _answer(serving, model, version, max(deadline - time.monotonic(), 1.0))


def _loaded(serving: RunningServing, model: str, version: str, workers: int) -> bool:
    try:
        descriptions = rest.workers(serving.management, serving.management_token, model, version)
    except (FileNotFoundError, ValueError, rest.Unreachable):
        return False
    return sum(worker["status"] == "READY" for worker in descriptions) >= workers


def _check(serving: RunningServing, model: str, version: str) -> None:
    """Raise StartFailed if `model`, which is the only one that is loading, cannot become ready any more."""
    _check_process(serving, model)
    if log.load_failed(log.read(serving.log), model):
        said = _reason(serving.log, model)
        raise StartFailed(f"model {model} {version} does not load: {said}; the log is {serving.log}")


def _check_process(serving: RunningServing, model: str = "") -> None:
    if (status := serving.poll()) is not None:
        text = log.read(serving.log) + log.read(serving.key_file.with_name(state_folder.CONSOLE))
        said = (log.reason(text, model) if model else None) or log.last_line(text)
        raise StartFailed(f"TorchServe ended with status {status}: {said}; the log is {serving.log}")


def _reason(path: Path, model: str) -> str:
    until = time.monotonic() + _LAST_LINES
    while (said := log.reason(log.read(path), model)) is None and time.monotonic() < until:
        time.sleep(_POLL)
    return said or "its worker died without a word"


def _answer(serving: RunningServing, model: str, version: str, timeout: float) -> None:
    what = f"model {model} {version} loaded"
    try:
        status, message = rest.probe(serving.rest, serving.inference_token, f"{model}/{version}", timeout)
    except rest.Unreachable as error:
        raise StartFailed(f"{what} but did not answer a request: {error} ({PATIENCE})") from error
    if status != 200:
        raise StartFailed(f"{what} but answered a request with {status}: {message}")
