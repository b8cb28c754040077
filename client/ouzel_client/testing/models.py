"""The model store of `testing.FakeServer`: in memory, without weights."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from ouzel_client.testing.places import CLASSIFICATION, DETECTION, SEGMENTATION
from ouzel_protos.v1 import model_pb2 as pb

_LAYERS = {"conv": (4, 8, 8)}
_PREPROCESSING: Mapping[str, Any] = {"size": [8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


class FakeModels:
    """The models of a fake server.

    Args:
        operators: The labels of the operator's models by name. Callers cannot change them. Each has one version, "1.0".
        tasks: What they are for, by name; those that are not named are classifiers.

    Raises:
        ValueError: A task, or the name of a model, is not known.

    Attributes:
        labels: The labels of the versions that fine-tuning jobs add from now on; detectors have the background before.
    """

    def __init__(self, operators: Mapping[str, tuple[str, ...]], tasks: Mapping[str, str] | None = None) -> None:
        for name, task in (tasks or {}).items():
            if name not in operators or task not in (CLASSIFICATION, SEGMENTATION, DETECTION):
                raise ValueError(f"tasks: {name!r} is no model here, or {task!r} no task")
        self._tasks = dict(tasks or {})
        self.labels: tuple[str, ...] = ("cat", "dog")
        self._operators = operators
        self._tuned: dict[str, list[tuple[pb.Model, tuple[str, ...]]]] = {}  # of a name the oldest first
        self._made: dict[str, int] = {}  # versions of each name, those that were deleted too: no number is used twice
        self._lock = threading.RLock()

    def publish(
        self,
        name: str,
        lineage: Mapping[str, Any],
        promote: bool,
        *,
        held_back: bool = False,
        task: str = CLASSIFICATION,
    ) -> pb.Model:
        """Add the next version of a name; the first is its default, unless its gate held it back."""
        labels = ("background", *self.labels) if task == DETECTION else self.labels
        with self._lock:
            self._made[name] = self._made.get(name, 0) + 1
            made = _model(name, str(self._made[name]), labels, task)
            made.lineage.update(lineage)
            versions = self._tuned.setdefault(name, [])
            versions.append((made, labels))
            default = any(each.is_default for each, _ in versions)
            if promote or not (default or held_back):
                self._promote(made)
            made.served = default or made.is_default
            return made

    def is_operators(self, name: str) -> bool:
        """Whether it is a model of the operator."""
        return name in self._operators

    def find(self, name: str, version: str = "") -> tuple[pb.Model, tuple[str, ...]] | None:
        """A version and its labels, by default the default version. A model of the operator has any version."""
        with self._lock:
            if name in self._operators:
                return self._operators_model(name), self._operators[name]
            versions = self._tuned.get(name, [])
            return next((each for each in versions if _is(each[0], version)), None)

    def call(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a method."""
        with self._lock:
            if method == "ListModels":
                return pb.ListModelsResponse(models=[each for each in self._all() if request.name in ("", each.name)])
            stored = self.find(request.name, request.version)
            if stored is None:
                context.abort(grpc.StatusCode.NOT_FOUND, f"name: no model {request.name!r}, {request.version!r}")
            if method == "GetModel":
                return _details(*stored)
            self._check_changeable(request, context)
            if method == "PromoteModel":
                return self._promote(stored[0])
            versions = self._tuned[request.name]
            if stored[0].is_default and len(versions) > 1:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "version: is the default; promote another one first")
            versions.remove(stored)
            return Empty()

    def _all(self) -> list[pb.Model]:
        named = {name: [self._operators_model(name)] for name in self._operators}
        named |= {name: [model for model, _ in versions] for name, versions in self._tuned.items()}
        return [model for _, models in sorted(named.items()) for model in models]

    def _operators_model(self, name: str) -> pb.Model:
        model = _model(name, "1.0", self._operators[name], self._tasks.get(name, CLASSIFICATION))
        model.is_default = True
        return model

    def _check_changeable(self, request: Any, context: grpc.ServicerContext) -> None:
        if not request.version:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "version: none is named")
        if self.is_operators(request.name):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"name: {request.name!r} is a model of the operator")

    def _promote(self, model: pb.Model) -> pb.Model:
        model.served = True
        for each, _ in self._tuned[model.name]:
            each.is_default = each.version == model.version
        return model


def _is(model: pb.Model, version: str) -> bool:
    return model.version == version if version else model.is_default


def _model(name: str, version: str, labels: tuple[str, ...], task: str) -> pb.Model:
    digest = "sha256:" + hashlib.sha256(f"{name}@{version}".encode()).hexdigest()
    return pb.Model(
        name=name,
        version=version,
        arch="fake:net",
        digest=digest,
        size=1000,
        classes=len(labels),
        served=True,
        task=task,
    )


def _details(model: pb.Model, labels: tuple[str, ...]) -> pb.ModelDetails:
    layers = [pb.ModelDetails.Layer(name=name, shape=shape) for name, shape in _LAYERS.items()]
    details = pb.ModelDetails(model=model, labels=labels, layers=layers)
    details.preprocessing.update(_PREPROCESSING)
    return details
