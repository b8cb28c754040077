"""tritonclient, over gRPC and HTTP, blocking and asynchronous. See `common`."""

from __future__ import annotations

import asyncio
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as tg
import tritonclient.grpc.aio as tga
import tritonclient.http as th
import tritonclient.http.aio as tha
from common import MODEL, OUTPUTS, PARAMETERS, Checks, attempt, finish, inputs
from tritonclient.utils import InferenceServerException


def triton_inputs(module: Any, files: list[bytes], tensors: np.ndarray | None = None, **how: Any) -> list[Any]:
    if tensors is not None:
        given = module.InferInput("input", list(tensors.shape), "FP32")
        given.set_data_from_numpy(tensors, **how)
        return [given]
    given = module.InferInput("image", [len(files)], "BYTES")
    given.set_data_from_numpy(np.array(files, object), **how)
    return [given]


def triton(name: str, module: Any, client: Any, check: Checks, files: list[bytes], tensors: np.ndarray) -> None:
    """tritonclient, one of its two protocols."""
    http = module is th
    check(f"{name} live", client.is_server_live())
    check(f"{name} ready", client.is_server_ready())
    check(f"{name} model ready", client.is_model_ready(MODEL) and client.is_model_ready(MODEL, "2"))
    check(f"{name} unknown model", not client.is_model_ready("nope"))
    told = client.get_server_metadata() if http else client.get_server_metadata(as_json=True)
    check(f"{name} server", told["name"] == "ouzel", told)
    told = client.get_model_metadata(MODEL) if http else client.get_model_metadata(MODEL, as_json=True)
    check(f"{name} metadata", [each["name"] for each in told["outputs"]] == list(OUTPUTS), told["versions"])
    index = client.get_model_repository_index() if http else client.get_model_repository_index(as_json=True)["models"]
    check(f"{name} index", {each["version"] for each in index} == {"1", "2"}, index)
    config = client.get_model_config(MODEL) if http else client.get_model_config(MODEL, as_json=True)["config"]
    shapes = [list(map(int, each["dims"])) for each in config["output"]]
    same = [list(map(int, each["shape"])) for each in told["outputs"]]
    check(f"{name} config", shapes == same and not config.get("max_batch_size"), config["input"])

    def rows() -> int:
        got = client.get_inference_statistics(MODEL, "1", **({} if http else {"as_json": True}))
        return int(got["model_stats"][0].get("inference_count", 0))

    before = rows()
    client.infer(MODEL, triton_inputs(module, files))
    check(f"{name} statistics", rows() == before + len(files), before)
    every = client.get_inference_statistics() if http else client.get_inference_statistics(as_json=True)
    check(f"{name} statistics of all", {each["version"] for each in every["model_stats"]} == {"1", "2"})
    wanted = [module.InferRequestedOutput(each) for each in OUTPUTS]
    answer = client.infer(MODEL, triton_inputs(module, files), outputs=wanted, request_id="r-7", parameters=PARAMETERS)
    check.answer(f"{name} images", answer.as_numpy)
    response = answer.get_response() if http else answer.get_response(as_json=True)
    check(f"{name} id", response["id"] == "r-7" and response["model_version"] == "1")
    answer = client.infer(
        MODEL, triton_inputs(module, [], tensors), outputs=wanted, parameters=PARAMETERS, timeout=60_000_000
    )
    check.answer(f"{name} tensors", answer.as_numpy)
    check.answer(
        f"{name} usual outputs", client.infer(MODEL, triton_inputs(module, files)).as_numpy, ("scores", "labels")
    )
    top = [module.InferRequestedOutput("scores", class_count=2)]
    texts = client.infer(MODEL, triton_inputs(module, files), outputs=top).as_numpy("scores")
    best = check.expected["classes"][:, :2]
    check(f"{name} classification", [[int(t.split(b":")[1]) for t in row] for row in texts] == best.tolist(), texts[0])
    half = module.InferInput("input", list(tensors.shape), "FP16")
    half.set_data_from_numpy(tensors.astype(np.float16))
    scores = client.infer(MODEL, [half]).as_numpy("scores")
    gap = np.abs(scores - check.expected["scores"]).max()
    check(f"{name} FP16", 0 < gap < 0.05, f"{gap:.1e}")
    brain = module.InferInput("input", list(tensors.shape), "BF16")
    brain.set_data_from_numpy(tensors.astype(ml_dtypes.bfloat16))
    gap = np.abs(client.infer(MODEL, [brain]).as_numpy("scores") - check.expected["scores"]).max()
    check(f"{name} BF16", 0 < gap < 0.2, f"{gap:.1e}")
    bad = module.InferInput("input", [1, 3, 8, 8], "FP32")
    bad.set_data_from_numpy(np.zeros((1, 3, 8, 8), np.float32))
    check.refused(
        f"{name} wrong shape",
        lambda: client.infer(MODEL, [bad]),
        InferenceServerException,
        "inputs.input: its shape is [-1, 3, 64, 64]",
    )
    check.refused(
        f"{name} unknown model",
        lambda: client.infer("nope", triton_inputs(module, files)),
        InferenceServerException,
        "not served here",
    )
    check.refused(
        f"{name} no image",
        lambda: client.infer(MODEL, triton_inputs(module, [b"nonsense"])),
        InferenceServerException,
        "image",
    )
    pending = [client.async_infer(MODEL, triton_inputs(module, files)) for _ in range(8)] if http else []
    for each in pending:
        check.answer(f"{name} async", each.get_result().as_numpy, ("scores",))


def triton_http_only(client: th.InferenceServerClient, check: Checks, files: list[bytes], tensors: np.ndarray) -> None:
    for algorithm in ("gzip", "deflate"):
        answer = client.infer(
            MODEL,
            triton_inputs(th, files),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
            outputs=[th.InferRequestedOutput(each) for each in OUTPUTS],
            parameters=PARAMETERS,
        )
        check.answer(f"triton http {algorithm}", answer.as_numpy)
    plain = triton_inputs(th, [], tensors, binary_data=False)
    outputs = [th.InferRequestedOutput(each, binary_data=each == "saliency") for each in OUTPUTS]
    check.answer("triton http JSON", client.infer(MODEL, plain, outputs=outputs, parameters=PARAMETERS).as_numpy)


async def triton_aio(name: str, module: Any, plain: Any, client: Any, check: Checks, files: list[bytes]) -> None:
    wanted = [plain.InferRequestedOutput(each) for each in OUTPUTS]
    async with client:
        check(f"{name} ready", await client.is_server_ready() and await client.is_model_ready(MODEL))
        calls = [
            client.infer(MODEL, triton_inputs(plain, files), outputs=wanted, parameters=PARAMETERS) for _ in range(4)
        ]
        for answer in await asyncio.gather(*calls):
            check.answer(name, answer.as_numpy)


async def aio(rest: str, grpc: str, check: Checks, files: list[bytes]) -> None:
    host = rest.removeprefix("http://")
    await triton_aio("triton grpc.aio", tga, tg, tga.InferenceServerClient(grpc), check, files)
    await triton_aio("triton http.aio", tha, th, tha.InferenceServerClient(host), check, files)


def main() -> None:
    rest, grpc, check, files, tensors = inputs()
    attempt(check, "triton grpc", triton, "triton grpc", tg, tg.InferenceServerClient(grpc), check, files, tensors)
    http = th.InferenceServerClient(rest.removeprefix("http://"), concurrency=4)
    attempt(check, "triton http", triton, "triton http", th, http, check, files, tensors)
    attempt(check, "triton http", triton_http_only, http, check, files, tensors)
    attempt(check, "triton aio", aio, rest, grpc, check, files)
    finish(check)


if __name__ == "__main__":
    main()
