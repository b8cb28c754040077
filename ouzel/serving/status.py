"""What runs, and how its workers are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouzel.model_files import order
from ouzel.serving import folder, rest
from ouzel_protos.local import Serving, token


@dataclass(frozen=True)
class Worker:
    """A Python process that serves a model; `state` is READY or UNLOADING (starting or ending)."""

    pid: int
    state: str


@dataclass(frozen=True)
class Model:
    """A version of a model that is served; `is_default` if callers get it who name none."""

    name: str
    version: str
    is_default: bool
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
    versions, default = _described(serving, key, f"{name}/all"), _described(serving, key, name)
    chosen = {version["modelVersion"] for version in default}
    return [
        Model(
            name,
            version["modelVersion"],
            version["modelVersion"] in chosen,
            tuple(Worker(w["pid"], w["status"]) for w in version["workers"]),
        )
        for version in sorted(versions, key=lambda version: order(version["modelVersion"]))
    ]


def _described(serving: Serving, key: str, model: str) -> list[dict[str, Any]]:
    answered, body = rest.call("GET", f"{serving['management']}/models/{model}", key)
    return list(json.loads(body)) if answered == 200 else []
