"""What the REST and the gRPC form of the Open Inference Protocol share: a model's description, and its answers.

References:
    Open Inference Protocol, version 2: https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ouzel.checks import did_you_mean
from ouzel.endpoints.clients import scores
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.protocols import Oip
from ouzel.errors import FailedPrecondition

FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as the service describes it; -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Metadata:
    """A model as the service describes it."""

    name: str
    versions: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Plan:
    """How a model is asked, once the operator's file is seen to fit what the service says.

    Attributes:
        model: Its name.
        input: Name of the input.
        output: Name of the output.
        batch: Pictures in one request, at most.
        version: That answers, if that is known.
    """

    model: str
    input: str
    output: str
    batch: int
    version: str


def make_plan(endpoint: Endpoint, how: Oip, metadata: Metadata) -> Plan:
    """Compare the operator's file with the service's description.

    Args:
        endpoint: As the operator describes it.
        how: Its protocol.
        metadata: As the service describes it.

    Raises:
        FailedPrecondition: They contradict each other, or leave open which tensor is meant.
    """
    who = endpoint.who
    if metadata.name != how.model:
        raise FailedPrecondition(f"{who}: describes another model than {how.model!r}")
    taken = _one(metadata.inputs, how.input.name, "input", who)
    given = _one(metadata.outputs, how.output, "output", who)
    if len(metadata.inputs) > 1:
        raise FailedPrecondition(f"{who}: the model has {len(metadata.inputs)} inputs; an audit gives it an image only")
    batch = how.batch
    if taken.datatype:
        _check_input(endpoint, how, taken)
        if taken.shape[0] == 1:
            batch = 1
        elif taken.shape[0] > 0:
            raise FailedPrecondition(f"{who}: takes batches of exactly {taken.shape[0]} only")
    if given.datatype:
        _check_output(endpoint, given)
    versions = metadata.versions
    if how.version and versions and how.version not in versions:
        raise FailedPrecondition(f"{who}: has no version {how.version!r} of the model")
    known = how.version or (versions[0] if len(versions) == 1 else "")
    return Plan(how.model, taken.name, given.name, batch, known)


def _one(specs: Sequence[TensorSpec], name: str, key: str, who: str) -> TensorSpec:
    """The tensor of this name, or the only one; where the service describes none, the name has to do."""
    names = [spec.name for spec in specs]
    if not names and name:
        return TensorSpec(name, "", ())
    if not name and len(names) == 1:
        return specs[0]
    if not name:
        some = ", ".join(f"{each[:80]!r}" for each in names[:8]) or "none"
        raise FailedPrecondition(f"{who}: {key}.name: missing; the service describes {some}")
    if name not in names:
        some = ", ".join(f"{each[:80]!r}" for each in names[:8])
        raise FailedPrecondition(
            f"{who}: {key}.name: {name!r:.80} is not one of the service's: {some}{did_you_mean(name, names)}"
        )
    return specs[names.index(name)]


def _check_input(endpoint: Endpoint, how: Oip, spec: TensorSpec) -> None:
    who, asked = endpoint.who, how.input
    if spec.datatype != asked.datatype:
        raise FailedPrecondition(
            f"{who}: input.datatype: {asked.datatype} is not the service's, which is {spec.datatype[:20]!r}"
        )
    assert endpoint.size is not None
    shape = (3, *endpoint.size) if asked.layout == "NCHW" else (*endpoint.size, 3)
    fits = len(spec.shape) == 4 and all(
        theirs in (-1, ours) for theirs, ours in zip(spec.shape[1:], shape, strict=True)
    )
    if not fits:
        raise FailedPrecondition(
            f"{who}: input.layout and size make tensors (N, {', '.join(map(str, shape))}); the service takes "
            f"{list(spec.shape[:8])}"
        )


def _check_output(endpoint: Endpoint, spec: TensorSpec) -> None:
    if spec.datatype not in FLOATS:
        raise FailedPrecondition(
            f"{endpoint.who}: output {spec.name[:80]!r} is {spec.datatype[:20]!r}, not one of {', '.join(FLOATS)}"
        )
    if len(spec.shape) != 2 or spec.shape[1] not in (-1, len(endpoint.labels)):
        raise FailedPrecondition(
            f"{endpoint.who}: output {spec.name[:80]!r} has the shape {list(spec.shape[:8])}; "
            f"there are {len(endpoint.labels)} labels"
        )


class AnswerCheck:
    """Sees that all answers are of the same model, and of the shape that was asked for. Threads may share it.

    Args:
        endpoint: That answers.
        plan: By which it is asked.
    """

    def __init__(self, endpoint: Endpoint, plan: Plan) -> None:
        self._endpoint = endpoint
        self._plan = plan
        self._version = plan.version  # of the first answer, where it is not known before

    def __call__(self, ids: tuple[str, str], model: tuple[str, str], shape: Sequence[int], count: int) -> None:
        """Check an answer.

        Args:
            ids: Of the request, and in the answer; the latter may be empty.
            model: Name and version in the answer; the version may be empty.
            shape: Of the output.
            count: Pictures in the request.

        Raises:
            FailedPrecondition: It is of another request, another model, another version or another shape.
        """
        who = self._endpoint.who
        name, version = model
        if ids[1] not in ("", ids[0]):
            raise FailedPrecondition(f"{who}: answered another request than the one that was made")
        if name != self._plan.model:
            raise FailedPrecondition(f"{who}: another model than {self._plan.model!r} answered")
        self._version = self._version or version
        if version and version != self._version:
            raise FailedPrecondition(f"{who}: another version of the model answered than {self._version[:80]!r}")
        wanted = (count, len(self._endpoint.labels))
        if tuple(shape) != wanted:
            raise FailedPrecondition(f"{who}: answered scores of shape {list(shape)[:8]}, not {list(wanted)}")


def from_bytes(raw: bytes, datatype: str, count: int, classes: int, who: str) -> np.ndarray:
    """The scores of a binary output.

    Args:
        raw: Its bytes.
        datatype: As the answer names it.
        count: N, of the pictures in the request.
        classes: K.
        who: The endpoint, for messages.

    Returns:
        (N, K) float64.

    Raises:
        FailedPrecondition: Another datatype, or another number of bytes.
    """
    if datatype not in FLOATS:
        raise FailedPrecondition(f"{who}: answered scores of {datatype[:20]!r}, not one of {', '.join(FLOATS)}")
    kind = np.dtype(FLOATS[datatype])
    if len(raw) != count * classes * kind.itemsize:
        raise FailedPrecondition(
            f"{who}: answered {len(raw)} bytes of scores, not {count * classes * kind.itemsize} ({datatype})"
        )
    return np.frombuffer(raw, kind).reshape(count, classes).astype(np.float64)


def finished(values: np.ndarray, how: Oip, who: str) -> np.ndarray:
    """(N, K) scores as probabilities. Raises FailedPrecondition."""
    return scores.probabilities(values, how.scores, who)


def flat(data: Any) -> Any:
    """The values of a tensor, which may come as nested lists, in one list."""
    while isinstance(data, list) and data and all(isinstance(each, list) for each in data):
        data = [value for each in data for value in each]
    return data


def binary_size(tensor: dict[str, Any]) -> int | None:
    """Bytes of a tensor that follow the JSON, by the extension for binary tensors; None if its values are in it."""
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if type(size) is int and size >= 0 else None
