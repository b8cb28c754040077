"""What runs, and how its workers are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ouzel.serving import folder, rest
from ouzel_protos.local import Serving, token


@dataclass(frozen=True)
class Worker:
    """A Python process that serves a model; `state` is READY or UNLOADING (starting or ending)."""

    pid: int
    state: str


@dataclass(frozen=True)
class Model:
    """A model that is served."""

    name: str
    version: str
    workers: tuple[Worker, ...]


@dataclass(frozen=True)
class Status:
    """Services that run. `responding` is False when their process lives but does not answer."""

    serving: Serving
    responding: bool
    models: tuple[Model, ...]
    worker: str = ""  # "host:port" where jobs are accepted, or ""


def status(state: Path) -> Status | None:
    """The services of the state folder `state`; None when none run."""
    serving = folder.running(state)
    if serving is None:
        return None
    worker = folder.running_worker(state)
    jobs = worker["grpc"] if worker else ""
    try:
        key = token(serving["key_file"], "management")
        return Status(
            serving, True, tuple(m for name in _names(serving, key) for m in _models(serving, key, name)), jobs
        )
    except (OSError, ValueError):
        return Status(serving, False, (), jobs)


def _names(serving: Serving, key: str) -> list[str]:
    """Names of all models, also of those registered since the start. Raises OSError or ValueError."""
    answered, body = rest.call("GET", f"{serving['management']}/models?limit=1000", key)
    if answered != 200:
        raise ValueError(f"the list of models was answered with {answered}")
    return [model["modelName"] for model in json.loads(body)["models"]]


def _models(serving: Serving, key: str, name: str) -> list[Model]:
    answered, body = rest.call("GET", f"{serving['management']}/models/{name}/all", key)
    versions = json.loads(body) if answered == 200 else []
    return [
        Model(name, version["modelVersion"], tuple(Worker(w["pid"], w["status"]) for w in version["workers"]))
        for version in versions
    ]
