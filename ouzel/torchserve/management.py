"""Versions of models in a TorchServe that runs, over its management API. Calls in flight are not disturbed."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ouzel.errors import OuzelError
from ouzel.torchserve import log, rest
from ouzel.torchserve.errors import PublicationFailed, ServerUnreachable
from ouzel_protos.local import OPTIONS, SERVING, read_serving, token

_CALL = 10.0  # s for what TorchServe answers at once
_UNPACK = 60.0  # s for an archive, of up to gigabytes
_SMOKE = 120.0  # s for an explanation
_LOG = 2.0  # s for what workers say to come into the log


@dataclass(frozen=True)
class Server:
    """A TorchServe: URLs without a final slash. log: its log, where that is a file of this machine."""

    rest: str
    management: str
    key_file: Path
    log: Path | None = None

    @classmethod
    def local(cls, state: Path) -> Server | None:
        """What runs with the state folder `state`; None if nothing does."""
        found = read_serving(state)
        if found is None:
            return None
        server = cls(found["rest"], found["management"], Path(found["key_file"]), state / log.FILE)
        return server if server._listens() else None

    @classmethod
    def found(cls, place: Mapping[str, str] | None) -> Server | None:
        """By {"state": FOLDER}, as it is now, or by {"rest": URL, "management": URL, "key_file": PATH}; or None."""
        if not place:
            return None
        if "state" in place:
            return cls.local(Path(place["state"]))
        return cls(place["rest"].rstrip("/"), place["management"].rstrip("/"), Path(place["key_file"]))

    def _listens(self) -> bool:
        """Whether somebody does: what is recorded may have been killed. Any other trouble counts as running."""
        try:
            self.manage("GET", "/models?limit=1")
        except PublicationFailed as error:
            cause = error.__cause__.__cause__ if error.__cause__ else None
            return not isinstance(cause, ConnectionRefusedError)
        return True

    def manage(self, method: str, path: str, timeout: float = _CALL) -> tuple[int, bytes]:
        """A call of the management API. Raises PublicationFailed when nobody answers, or the key is missing."""
        with _reached(self.management):
            return rest.call(method, self.management + path, token(self.key_file, "management"), timeout=timeout)


def expected(place: Mapping[str, str] | None) -> bool:
    """Whether a TorchServe is meant to be at `place`, see `Server.found`, be it down at this moment: it was named, or
    was started with the state folder and not stopped in order.
    """
    if not place or "state" not in place:
        return bool(place)
    state = Path(place["state"])
    return "named" in place or any((state / name).exists() for name in (SERVING, OPTIONS))


@dataclass(frozen=True)
class Settings:
    """How a version is served: processes, requests computed together, milliseconds that the first of them waits, and
    seconds for an answer and for loading.
    """

    workers: int = 1
    batch_size: int = 8
    max_batch_delay_ms: int = 1
    response_timeout: int = 120
    startup_timeout: int = 120


_USUAL = Settings()


def versions(server: Server, name: str, version: str = "all") -> list[dict[str, Any]]:
    """TorchServe's descriptions of the versions of a model, none if there is none; "" is its default one."""
    status, body = server.manage("GET", _path(name, version))
    if status == 404:
        return []
    _check(server, status, body, f"{name} could not be looked up")
    return list(json.loads(body))


def served(server: Server) -> frozenset[tuple[str, str]]:
    """(name, version) of all that have a worker that is ready."""
    status, body = server.manage("GET", "/models?limit=1000")
    _check(server, status, body, "models could not be listed")
    return frozenset(
        (name, str(version["modelVersion"]))
        for name in {str(model["modelName"]) for model in json.loads(body)["models"]}
        for version in versions(server, name)
        if any(worker["status"] == "READY" for worker in version["workers"])
    )


def workers_of(server: Server, name: str, version: str = "") -> int:
    """Processes that TorchServe keeps for a version, by default the default one; 0 if it does not serve it."""
    return max((int(found["minWorkers"]) for found in versions(server, name, version)), default=0)


def settings_of(server: Server, name: str, version: str = "") -> Settings | None:
    """How a version is served, by default the default one; None if it is not."""
    for found in versions(server, name, version):
        return Settings(
            max(int(found["minWorkers"]), 1),
            int(found["batchSize"]),
            int(found["maxBatchDelay"]),
            int(found["responseTimeout"]),
            int(found["startupTimeout"]),
        )
    return None


def register(server: Server, name: str, version: str, file: str, settings: Settings = _USUAL) -> bool:
    """Serve `file` of TorchServe's model store; returns once its processes have loaded it. False if the version was
    there already; it then has as many processes. The first version of a name becomes its default.

    Raises PublicationFailed that says why; the version may then still be registered.
    """
    start, patience = _size(server.log), settings.startup_timeout + 30.0
    status, body = server.manage("POST", _registration(name, file, settings, wait=True), patience)
    if status != 409:
        _check(server, status, body, f"{name} {version} does not load", lambda: _reason(server.log, start, name))
        return True
    path = f"{_path(name, version)}?min_worker={settings.workers}&max_worker={settings.workers}&synchronous=true"
    status, body = server.manage("PUT", path, patience)
    what = f"{name} {version} does not get {settings.workers} workers"
    _check(server, status, body, what, lambda: _reason(server.log, start, name))
    return False


def begin(server: Server, name: str, version: str, file: str, settings: Settings) -> None:
    """As `register`, without waiting: processes that load it are being started. Raises PublicationFailed if not."""
    status, body = server.manage("POST", _registration(name, file, settings, wait=False), _UNPACK)
    if status not in (200, 202):
        _check(server, status, body, f"{name} {version} cannot be registered")


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


def smoke(server: Server, name: str, version: str) -> str:
    """Have a made-up picture predicted and explained; returns the digest of the weights that did it.

    Raises PublicationFailed if there is no prediction or no map, or if their numbers are none.
    """
    what = f"{name} {version} fails on a trial picture"
    with _reached(server.rest):
        status, body = rest.explain(
            server.rest, token(server.key_file, "inference"), f"{name}/{version}", {"saliency": ["gradient"]}, _SMOKE
        )
    _check(server, status, body, what)
    try:
        answer = json.loads(body)
        scores = [float(score.get("probability", 0.0)) for score in answer["scores"]]
        (found,) = answer["saliency"]
        values = [float(found.get(key, 0.0)) for key in ("minimum", "maximum")]  # JSON leaves zeros out
        digest = str(answer["model"]["weights_digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise PublicationFailed(f"{what}: the answer lacks something ({type(error).__name__}: {error})") from error
    if not scores or not all(map(math.isfinite, [*values, *scores])):
        raise PublicationFailed(f"{what}: its answer holds values that are not finite")
    return digest


def default_of(server: Server, name: str) -> str:
    """The version that TorchServe takes for callers who name none; "" if it serves none."""
    return next((str(found["modelVersion"]) for found in versions(server, name, "")), "")


def set_default(server: Server, name: str, version: str) -> None:
    """Give callers who name no version this one. Raises PublicationFailed."""
    status, body = server.manage("PUT", f"{_path(name, version)}/set-default")
    _check(server, status, body, f"{name} {version} cannot be the default")


def unregister(server: Server, name: str, version: str) -> None:
    """Serve a version no more; nothing happens if it is not served. Raises PublicationFailed, for a default beside
    others for instance.
    """
    status, body = server.manage("DELETE", _path(name, version), 60.0)
    if status != 404:
        _check(server, status, body, f"{name} {version} cannot be unregistered")


def forget(server: Server, name: str, version: str) -> None:
    """Unregister after something else went wrong, which is what is told."""
    with contextlib.suppress(OuzelError):
        unregister(server, name, version)


def _path(name: str, version: str) -> str:
    return f"/models/{quote(name, safe='')}" + (f"/{quote(version, safe='')}" if version else "")


@contextlib.contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        yield
    except (rest.Unreachable, OSError, ValueError) as error:
        raise ServerUnreachable(f"TorchServe at {url} does not answer: {error}") from error


def _check(server: Server, status: int, body: bytes, what: str, why: Callable[[], str | None] = lambda: None) -> None:
    if status != 200:
        where = f"; the log is {server.log}" if server.log else "; TorchServe's log may say more"
        raise PublicationFailed(f"{what}: {why() or rest.message(body)}{where}")


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.is_file() else 0


def _reason(path: Path | None, start: int, name: str) -> str | None:
    """Why the model did not load, by what the log says from `start` on. What workers say comes there in its own time,
    also after TorchServe's answer.
    """
    if path is None:
        return None
    deadline = time.monotonic() + _LOG
    while True:
        text = log.read(path).encode("utf-8", errors="replace")[start:].decode("utf-8", errors="replace")
        if (found := log.reason(text, name)) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
