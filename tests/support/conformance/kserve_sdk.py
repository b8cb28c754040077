"""KServe's SDK, over gRPC and REST. See `common`."""

from __future__ import annotations

import numpy as np
from common import MODEL, OUTPUTS, PARAMETERS, Checks, attempt, finish, inputs
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def kserve_request(files: list[bytes], tensors: np.ndarray | None, *, binary: bool) -> InferRequest:
    if tensors is None:
        given = InferInput("image", [len(files)], "BYTES")
        given.set_data_from_numpy(np.array(files, object), binary_data=True)
    else:
        given = InferInput("input", list(tensors.shape), "FP32")
        given.set_data_from_numpy(tensors, binary_data=binary)
    outputs = [RequestedOutput(each, {"binary_data": binary}) for each in OUTPUTS]
    return InferRequest(MODEL, [given], request_id="k-1", parameters=PARAMETERS, request_outputs=outputs)


async def kserve_checks(rest: str, grpc: str, check: Checks, files: list[bytes], tensors: np.ndarray) -> None:
    """KServe's SDK."""
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    check("kserve rest live", await client.is_server_live(rest))
    check("kserve rest ready", await client.is_server_ready(rest))
    check("kserve rest model ready", await client.is_model_ready(rest, MODEL))
    for binary in (True, False):
        for given in (None, tensors):
            answer = await client.infer(rest, kserve_request(files, given, binary=binary), model_name=MODEL)
            outputs = {each.name: each for each in answer.outputs}
            check.answer(f"kserve rest {binary=} {given is None=}", lambda name, o=outputs: o[name].as_numpy())
            check("kserve rest id", answer.id == "k-1")
    await client.close()
    channel = InferenceGRPCClient(grpc)
    check("kserve grpc live", await channel.is_server_live())
    check("kserve grpc ready", await channel.is_server_ready())
    check("kserve grpc model ready", await channel.is_model_ready(MODEL))
    for binary in (True, False):
        for given in (None, tensors):
            answer = await channel.infer(kserve_request(files, given, binary=binary))
            outputs = {each.name: each for each in answer.outputs}
            check.answer(f"kserve grpc {binary=} {given is None=}", lambda name, o=outputs: o[name].as_numpy())
    await channel.close()


def main() -> None:
    rest, grpc, check, files, tensors = inputs()
    attempt(check, "kserve", kserve_checks, rest, grpc, check, files, tensors)
    finish(check)


if __name__ == "__main__":
    main()
