"""Versions of models in a TorchServe that runs, over its management API. Calls in flight are not disturbed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ouzel.errors import OuzelError
from ouzel.torchserve import log, rest
from ouzel.torchserve.errors import PublicationFailed
from ouzel.torchserve.server import Server

_UNPACK = 60.0  # s for an archive, of up to gigabytes
_SCALING = 150.0  # s for processes to load a model
_LOG = 2.0  # s for what workers say to come into the log


@dataclass(frozen=True)
class Settings:
    """How a version is served.

    Attributes:
        workers: Processes.
        batch_size: Requests that are computed together at most.
        max_batch_delay_ms: Time that the first request of a batch waits for others, in milliseconds.
        response_timeout: Time for an answer, in seconds.
        startup_timeout: Time for loading, in seconds.
    """

    workers: int = 1
    batch_size: int = 8
    max_batch_delay_ms: int = 1
    response_timeout: int = 120
    startup_timeout: int = 120


_USUAL = Settings()


def versions(server: Server, name: str, version: str = "all") -> list[dict[str, Any]]:
    """TorchServe's descriptions of the versions of a model.

    Args:
        server: TorchServe.
        name: The model's name.
        version: A version, "all", or "" for the default one.

    Returns:
        The descriptions as the management API has them; empty if it does not serve the model.

    Raises:
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    status, body = server.manage("GET", _path(name, version))
    if status == 404:
        return []
    check_answer(server, status, body, f"{name} could not be looked up")
    return list(json.loads(body))


def served(server: Server) -> frozenset[tuple[str, str]]:
    """Which versions have a worker that is ready.

    Args:
        server: TorchServe.

    Returns:
        (name, version) of each.

    Raises:
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    status, body = server.manage("GET", "/models?limit=1000")
    check_answer(server, status, body, "models could not be listed")
    return frozenset(
        (name, str(version["modelVersion"]))
        for name in {str(model["modelName"]) for model in json.loads(body)["models"]}
        for version in versions(server, name)
        if any(worker["status"] == "READY" for worker in version["workers"])
    )


def workers_of(server: Server, name: str, version: str = "") -> int:
    """How many processes TorchServe keeps for a version; 0 if it does not serve it.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version; "" is the default one.

    Raises:
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    return max((int(description["minWorkers"]) for description in versions(server, name, version)), default=0)


def settings_of(server: Server, name: str, version: str = "") -> Settings | None:
    """How a version is served; None if it is not.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version; "" is the default one.

    Raises:
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    for description in versions(server, name, version):
        return Settings(
            max(int(description["minWorkers"]), 1),
            int(description["batchSize"]),
            int(description["maxBatchDelay"]),
            int(description["responseTimeout"]),
            int(description["startupTimeout"]),
        )
    return None


def register(server: Server, name: str, version: str, file: str, settings: Settings = _USUAL) -> bool:
    """Serves a version, and returns once its processes have loaded it.

    The first version of a name becomes its default.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version, as the archive says.
        file: Name of the archive in TorchServe's model store.
        settings: How it is served.

    Returns:
        False if the version was there already; it then has as many processes as `settings` says.

    Raises:
        PublicationFailed: It does not load; the message says why. The version may then still be registered.
    """
    start, patience = _size(server.log), settings.startup_timeout + 30.0
    status, body = server.manage("POST", _registration(name, file, settings, wait=True), patience)
    if status != 409:
        check_answer(server, status, body, f"{name} {version} does not load", lambda: _reason(server.log, start, name))
        return True
    scale(server, name, version, settings.workers, patience)
    return False


def scale(server: Server, name: str, version: str, workers: int, patience: float = _SCALING) -> None:
    """Gives a version that is served so many processes, and returns once they have loaded it.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version.
        workers: Processes.
        patience: Time for it, in seconds.

    Raises:
        PublicationFailed: A process does not load it; the message says why.
    """
    start = _size(server.log)
    path = f"{_path(name, version)}?min_worker={workers}&max_worker={workers}&synchronous=true"
    status, body = server.manage("PUT", path, patience)
    what = f"{name} {version} does not get {workers} workers"
    check_answer(server, status, body, what, lambda: _reason(server.log, start, name))


def begin(server: Server, name: str, version: str, file: str, settings: Settings) -> None:
    """As `register`, but does not wait until the processes have loaded the version.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version, as the archive says.
        file: Name of the archive in TorchServe's model store.
        settings: How it is served.

    Raises:
        PublicationFailed: The processes could not be started.
    """
    status, body = server.manage("POST", _registration(name, file, settings, wait=False), _UNPACK)
    if status not in (200, 202):
        check_answer(server, status, body, f"{name} {version} cannot be registered")


def _registration(name: str, file: str, settings: Settings, *, wait: bool) -> str:
    query = {
        "url": file,
        "model_name": name,
        "initial_workers": settings.workers,
        "synchronous": str(wait).lower(),
        "batch_size": settings.batch_size,
        "max_batch_delay": settings.max_batch_delay_ms,
        "response_timeout": settings.response_timeout,
        "startup_timeout": settings.startup_timeout,
    }
    return f"/models?{urlencode(query, quote_via=quote)}"


def default_of(server: Server, name: str) -> str:
    """The version that TorchServe takes for callers who do not name one; "" if it does not serve the model.

    Args:
        server: TorchServe.
        name: The model's name.

    Raises:
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    return next((str(description["modelVersion"]) for description in versions(server, name, "")), "")


def set_default(server: Server, name: str, version: str) -> None:
    """Gives callers who name no version this one.

    Args:
        server: TorchServe.
        name: The model's name.
        version: A version that is served.

    Raises:
        PublicationFailed: TorchServe refuses, or does not answer.
    """
    status, body = server.manage("PUT", f"{_path(name, version)}/set-default")
    check_answer(server, status, body, f"{name} {version} cannot be the default")


def unregister(server: Server, name: str, version: str) -> None:
    """Serves a version no longer; does nothing if it is not served.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version.

    Raises:
        PublicationFailed: TorchServe refuses, as it does for the default beside other versions, or does not answer.
    """
    status, body = server.manage("DELETE", _path(name, version), 60.0)
    if status != 404:
        check_answer(server, status, body, f"{name} {version} cannot be unregistered")


def forget(server: Server, name: str, version: str) -> None:
    """Unregisters a version after something else failed; the error that counts is that of the other failure.

    Args:
        server: TorchServe.
        name: The model's name.
        version: The version.
    """
    with contextlib.suppress(OuzelError):
        unregister(server, name, version)


def _path(name: str, version: str) -> str:
    return f"/models/{quote(name, safe='')}" + (f"/{quote(version, safe='')}" if version else "")


def check_answer(
    server: Server, status: int, body: bytes, what: str, why: Callable[[], str | None] = lambda: None
) -> None:
    """Raises PublicationFailed unless the status is 200; `what` and `why` say what failed."""
    if status != 200:
        where = f"; the log is {server.log}" if server.log else "; TorchServe's log may say more"
        raise PublicationFailed(f"{what}: {why() or rest.message(body)}{where}")


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.is_file() else 0


def _reason(path: Path | None, start: int, name: str) -> str | None:
    """Why the model did not load, by what the log says from `start` on.

    Output of workers may come there after TorchServe's answer, so this waits for it a little.
    """
    if path is None:
        return None
    deadline = time.monotonic() + _LOG
    while True:
        text = log.read(path, start)
        if (reason := log.reason(text, name)) or time.monotonic() > deadline:
            return reason
        time.sleep(0.05)
