"""The models that TorchServe serves, and their processes, as its management API tells them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ouzel.model_names import version_key
from ouzel.torchserve import rest
from ouzel_protos.local import Serving


@dataclass(frozen=True)
class Worker:
    """A Python process that serves a model.

    Attributes:
        pid: Of the process.
        state: READY, or UNLOADING while it starts or ends.
    """

    pid: int
    state: str


@dataclass(frozen=True)
class Model:
    """A version of a model that is served.

    Attributes:
        name: Name of the model.
        version: Its version.
        is_default: Whether callers get it who name no version.
        workers: Its processes.
        wanted: How many processes it is to have.
    """

    name: str
    version: str
    is_default: bool
    workers: tuple[Worker, ...]
    wanted: int = 1


def names(serving: Serving, key: str, timeout: float) -> list[str]:
    """Names of all models, also of those registered since the start. Raises OSError or ValueError."""
    answered, body = rest.call("GET", f"{serving['management']}/models?limit=1000", key, timeout=timeout)
    if answered != 200:
        raise ValueError(f"the list of models was answered with {answered}")
    return [model["modelName"] for model in json.loads(body)["models"]]


def models(serving: Serving, key: str, name: str, timeout: float) -> list[Model]:
    """The versions of a model, in order. Raises OSError or ValueError."""
    versions, default = (_described(serving, key, each, timeout) for each in (f"{name}/all", name))
    chosen = {version["modelVersion"] for version in default}
    return [
        Model(
            name,
            version["modelVersion"],
            version["modelVersion"] in chosen,
            tuple(Worker(w["pid"], w["status"]) for w in version["workers"]),
            int(version.get("minWorkers", 1)),
        )
        for version in sorted(versions, key=lambda version: version_key(version["modelVersion"]))
    ]


def _described(serving: Serving, key: str, model: str, timeout: float) -> list[dict[str, Any]]:
    answered, body = rest.call("GET", f"{serving['management']}/models/{model}", key, timeout=timeout)
    return list(json.loads(body)) if answered == 200 else []
