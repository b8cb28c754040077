"""One inference: from a request that was read to tensors."""

from __future__ import annotations

from ouzel.gateway.access.caller import Caller
from ouzel.gateway.door import Door
from ouzel.gateway.oip.outputs import outputs
from ouzel.gateway.oip.request import InferRequest
from ouzel.gateway.oip.rows import ask
from ouzel.gateway.oip.tensors import OutputTensor
from ouzel_protos.v1 import explain_pb2 as pb

_LARGE = 2**18  # bytes that are turned into rows, or out of them, in a thread


async def infer(
    door: Door, caller: Caller, request: InferRequest, deadline: float, most_rows: int
) -> tuple[str, list[OutputTensor]]:
    """Answers a request of a caller who was admitted.

    Args:
        door: To the engine.
        caller: Who was admitted.
        request: As it was read.
        deadline: On the clock of `time.monotonic`.
        most_rows: Of one request.

    Returns:
        The version that answered, and the tensors in the order asked for.

    Raises:
        OuzelError: The request is wrong, or is not answered; see `Door.predict`.
    """
    model = await door.found(caller, request.model, request.version)
    size = sum(getattr(each.values, "nbytes", 0) for each in request.inputs)
    if size > _LARGE:
        asked = await door.aside(caller, deadline, ask, request, model, most_rows)
    else:
        asked = ask(request, model, most_rows)
    answers = await door.predict(caller, request.model, request.version, asked.rows, deadline)
    version = next((each.model.version for each in answers if each.model.version), model.version)
    if sum(map(_size, answers)) > _LARGE:
        return version, await door.aside(caller, deadline, outputs, asked, answers, model)
    return version, outputs(asked, answers, model)


def _size(answer: pb.Explanation) -> int:
    return answer.ByteSize()
