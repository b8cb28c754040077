"""A request for inference, whatever it came over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ouzel.errors import InvalidArgument, Unimplemented
from ouzel.gateway.oip.tensors import InputTensor, Parameters
from ouzel_protos.text import shown

_SHARED_MEMORY = "shared_memory_"
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end", "priority")  # of Triton's clients


@dataclass(frozen=True)
class RequestedOutput:
    """An output that is asked for.

    Attributes:
        name: Of the output.
        parameters: Of the output.
    """

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True)
class InferRequest:
    """A request.

    Attributes:
        model: Name of the model.
        version: Of the model; "" is the default.
        id: That the answer has, too.
        inputs: The tensors.
        outputs: Those that are asked for; none means the usual ones.
        parameters: Of the request.
    """

    model: str
    version: str
    id: str
    inputs: tuple[InputTensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Parameters = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        """That the caller waits; None if it does not say. In microseconds on the wire. Raises InvalidArgument."""
        value = self.parameters.get("timeout")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidArgument(
                f"parameters.timeout: {value!r:.40} is not a number of microseconds", field="parameters.timeout"
            )
        return value / 1e6 or None


def check_sent(parameters: Parameters, where: str) -> None:
    """Raises Unimplemented if a tensor is said to be in shared memory; the message then does not hold it."""
    if any(name.startswith(_SHARED_MEMORY) for name in parameters):
        raise Unimplemented(f"{where}: tensors in shared memory are not read; send their bytes", field=where)


def own_parameters(parameters: Parameters, where: str, known: Mapping[str, type[int]]) -> Parameters:
    """What is left of parameters without those that are known; these have their types.

    Args:
        parameters: Of a request, an input or an output.
        where: Whose, in messages.
        known: Types by name.

    Raises:
        InvalidArgument: One that is known has another type, or is one that means nothing here.
        Unimplemented: The tensor is said to be in shared memory.
    """
    check_sent(parameters, where)
    rest = {}
    for name, value in parameters.items():
        path = f"{where}.{name}"
        if name in _SEQUENCES:
            if value:
                raise InvalidArgument(f"{path}: there are no sequences and priorities here", field=path)
        elif name in known:
            kinds = known[name]
            if isinstance(value, bool) is not (kinds is bool) or not isinstance(value, kinds):
                wanted = "true or false" if kinds is bool else "an integer"
                raise InvalidArgument(f"{path}: {shown(str(value), 40)} is not {wanted}", field=path)
        else:
            rest[name] = value
    return rest
