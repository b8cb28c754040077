"""What is sent through the front door, and what may be answered: rows 1 to 15 of the table of reliability."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1 import job_pb2
from support.front_door import FrontDoor, Key, metadata
from support.reliability import files

INFER = "/inference.GRPCInferenceService/ModelInfer"
GET_JOB = "/ouzel.v1.JobService/GetJob"
IMAGE = files.JPEG


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: The name of a status of gRPC, or the number of one of HTTP.
        words: Of the error.
        seconds: Until it came.
    """

    status: str
    words: str = ""
    seconds: float = 0.0


@dataclass
class Target:
    """What calls go to.

    Attributes:
        door: The front door.
        channel: To it.
        key: Of the caller.
        model: That the caller may ask.
        hidden: That is not for the caller.
        job: Of another tenant; "" if there is none.
    """

    door: FrontDoor
    channel: grpc.Channel
    key: Key
    model: str
    hidden: str = ""
    job: str = ""


Ask = Callable[[Target], Answer]


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        row: Of the table.
        what: Is sent.
        grpc: How it is sent over gRPC; None if it cannot be.
        rest: How over REST.
        told: What may be answered over gRPC.
        status: What over REST.
    """

    row: int
    what: str
    grpc: Ask | None
    rest: Ask | None
    told: frozenset[str]
    status: frozenset[str]


def timed(ask: Callable[[], tuple[str, str]]) -> Answer:
    began = time.monotonic()
    status, words = ask()
    return Answer(status, words, time.monotonic() - began)


def raw(
    target: Target, path: str, content: bytes, headers: Sequence[tuple[str, str]] | None = None, **more: Any
) -> tuple[str, str, bytes]:
    """(status, words, answer) of a call with these bytes."""
    try:
        call = target.channel.unary_unary(path)
        answer = call(content, timeout=150, metadata=metadata(target.key) if headers is None else headers, **more)
        return "OK", "", answer
    except grpc.RpcError as error:
        return error.code().name, error.details() or "", b""


def predicted(target: Target, model: str, **parts: bytes) -> tuple[str, str]:
    """Of Ouzel's own call over gRPC; what the envelope says counts."""
    request = PredictionsRequest(model_name=model, input={name: part for name, part in parts.items() if part})
    status, words, answer = raw(target, PREDICTIONS, request.SerializeToString())
    if status == "OK":
        envelope = pb.Explanation.FromString(PredictionResponse.FromString(answer).prediction)
        if envelope.HasField("error"):
            return pb.Error.Code.Name(envelope.error.code), envelope.error.message
    return status, words


def posted(target: Target, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[str, str]:
    status, _, answer = target.door.ask(
        "POST", path, body, {"Authorization": f"Bearer {target.key.text}", **(headers or {})}
    )
    return str(status), "" if status == 200 else answer.decode("utf-8", "replace")


def explained(target: Target, model: str, image: bytes, options: str) -> tuple[str, str]:
    headers = {"Content-Type": "application/octet-stream"} | ({"X-Ouzel-Options": options} if options else {})
    return posted(target, f"/v1/models/{model}/explain", image, headers)


def explain(
    row: int,
    what: str,
    told: str,
    status: str,
    *,
    image: bytes = IMAGE,
    options: object = None,
    model: str | None = None,
) -> Case:
    """An explain request of both protocols. told, status: what is allowed, with spaces between."""
    text = "" if options is None else json.dumps(options)

    def over_grpc(target: Target) -> Answer:
        parts = {"image": image, "options": text.encode()}
        return timed(lambda: predicted(target, model or target.model, **parts))

    def over_rest(target: Target) -> Answer:
        return timed(lambda: explained(target, model or target.model, image, text))

    return Case(row, what, over_grpc, over_rest, frozenset(told.split()), frozenset(status.split()))


def _bearer(row: int, what: str, *values: str) -> Case:
    headers = tuple(("authorization", value) for value in values)

    def over_grpc(target: Target) -> Answer:
        return timed(lambda: raw(target, PREDICTIONS, b"", headers)[:2])

    def over_rest(target: Target) -> Answer:
        return timed(
            lambda: posted(
                target, f"/v1/models/{target.model}/explain", IMAGE, {"Authorization": values[0] if values else ""}
            )
        )

    return Case(row, what, over_grpc, over_rest, frozenset({"UNAUTHENTICATED"}), frozenset({"401"}))


def _foreign_job(target: Target) -> Answer:
    return timed(lambda: raw(target, GET_JOB, job_pb2.GetJobRequest(id=target.job).SerializeToString())[:2])


def _foreign_job_rest(target: Target) -> Answer:
    return timed(lambda: posted(target, "/v1/JobService/GetJob", json.dumps({"id": target.job}).encode()))


def _foreign_model(target: Target) -> Answer:
    return timed(lambda: predicted(target, target.hidden, image=IMAGE))


def _foreign_model_rest(target: Target) -> Answer:
    return timed(lambda: explained(target, target.hidden, IMAGE, ""))


@dataclass(frozen=True)
class Sent:
    """Bytes over both protocols. Sizes are in bytes."""

    content: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    path: str = INFER
    http: str = "/v2/models/{model}/infer"
    more: dict[str, Any] = field(default_factory=dict)
    plain: bool = True

    def over_grpc(self, target: Target) -> Answer:
        headers = (*metadata(target.key), *self.headers) if self.plain else self.headers
        return timed(lambda: raw(target, self.path, self.content, headers, **self.more)[:2])

    def over_rest(self, target: Target) -> Answer:
        return timed(lambda: posted(target, self.http.format(model=target.model), self.content, dict(self.headers)))


def bomb(size: int) -> Case:
    """Zeros that are small as long as they are compressed."""

    def over_grpc(target: Target) -> Answer:
        return timed(lambda: raw(target, INFER, bytes(size), compression=grpc.Compression.Gzip)[:2])

    def over_rest(target: Target) -> Answer:
        headers = {"Content-Encoding": "gzip"}
        return timed(lambda: posted(target, f"/v2/models/{target.model}/infer", _gzip_of_zeros(size), headers))

    return Case(
        4,
        f"gzip of {size >> 20} MiB of zeros",
        over_grpc,
        over_rest,
        frozenset({"RESOURCE_EXHAUSTED"}),
        frozenset({"413"}),
    )


def _gzip_of_zeros(size: int) -> bytes:
    import zlib

    pack = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    parts = [pack.compress(bytes(2**20)) for _ in range(size >> 20)]
    return b"".join([*parts, pack.flush()])


def large(size: int) -> Case:
    """A message over the cap."""

    def over_grpc(target: Target) -> Answer:
        return timed(lambda: raw(target, INFER, bytes(size))[:2])

    def over_rest(target: Target) -> Answer:
        return timed(lambda: posted(target, f"/v2/models/{target.model}/infer", bytes(size)))

    return Case(
        4, f"a message of {size >> 20} MiB", over_grpc, over_rest,
        frozenset({"RESOURCE_EXHAUSTED"}), frozenset({"413"}),
    )  # fmt: skip


def _metadata(size: int) -> Case:
    def over_grpc(target: Target) -> Answer:
        headers = (*metadata(target.key), ("x-much", "a" * size))
        return timed(lambda: raw(target, INFER, b"", headers)[:2])

    def over_rest(target: Target) -> Answer:
        return timed(lambda: posted(target, f"/v2/models/{target.model}/infer", b"{}", {"X-Much": "a" * size}))

    return Case(
        4,
        f"{size >> 10} KiB of metadata",
        over_grpc,
        over_rest,
        frozenset({"RESOURCE_EXHAUSTED"}),
        frozenset({"400", "431"}),
    )


def _malformed() -> Iterator[Case]:
    for name, path, http, broken in (
        ("inference", INFER, "/v2/models/{model}/infer", b'{"inputs": ['),
        ("a job", "/ouzel.v1.JobService/CreateJob", "/v1/JobService/CreateJob", b'{"spec": {"maximize": 3}}'),
    ):
        over_grpc = Sent(b"\xff\xfe" * 50, path=path).over_grpc
        over_rest = Sent(broken, http=http).over_rest
        what = f"malformed message or JSON, {name}"
        yield Case(5, what, over_grpc, over_rest, frozenset({"INVALID_ARGUMENT"}), frozenset({"400"}))


def _methods(values: dict[str, Any]) -> dict[str, Any]:
    return {"saliency": [values]}


REFUSED = "INVALID_ARGUMENT"


def cases() -> list[Case]:
    """Rows 1, 2 and 4 to 13; those that need more than one call are in `faults`."""
    foreign = frozenset({"NOT_FOUND"}), frozenset({"404"})
    found = [
        _bearer(1, "no token"),
        _bearer(1, "a wrong token", "Bearer ouzel_guessed"),
        _bearer(1, "a token of another kind", "Basic dXNlcjpwYXNz"),
        Case(2, "another tenant's job", _foreign_job, _foreign_job_rest, *foreign),
        Case(2, "a model that is another tenant's", _foreign_model, _foreign_model_rest, *foreign),
        large(65 * 2**20),
        bomb(400 * 2**20),
        _metadata(64 * 2**10),
        *_malformed(),
        explain(6, "an empty body", REFUSED, "400", image=b""),
    ]
    found += [explain(7, name, REFUSED, "415", image=data) for name, data in files.NO_IMAGES.items()]
    for width, height in ((30000, 30000), (13000, 7000), (1, 2000)):
        found.append(
            explain(8, f"a PNG that says {width} x {height}", REFUSED, "413 400", image=files.announced(width, height))
        )
    found.append(explain(8, "a PNG that has 13000 x 7000", REFUSED, "413", image=files.blank(13000, 7000)))
    found.append(explain(9, "a truncated JPEG", REFUSED, "400", image=files.TRUNCATED))
    found.append(explain(9, "a zTXt chunk of 50 MB", REFUSED, "400", image=files.TEXT_BOMB))
    found += [explain(10, name, "OK", "200", image=data) for name, data in files.modes().items()]
    for target in (-1, 10**6, 2**63, "no such label"):
        options = _methods({"method": "gradient", "target": target})
        found.append(explain(11, f"target {target}", REFUSED, "400", options=options))
    for what, values in {
        "steps 0": {"method": "integrated_gradients", "steps": 0},
        "steps -1": {"method": "integrated_gradients", "steps": -1},
        "steps 10^9": {"method": "integrated_gradients", "steps": 10**9},
        "10^6 samples": {"method": "smoothgrad", "samples": 10**6},
        "occlusion with a stride of 1": {"method": "occlusion", "stride": 1},
        "a baseline of NaN": {"method": "integrated_gradients", "baseline": float("nan")},
    }.items():
        found.append(explain(12, what, REFUSED, "400", options=_methods(values)))
    found.append(explain(13, "an unknown model", "NOT_FOUND", "404", model="nobody"))
    for layer in ("no.such.layer", "__class__", "../x"):
        options = _methods({"method": "grad_cam", "layer": layer})
        found.append(explain(13, f"layer {layer}", f"{REFUSED} NOT_FOUND", "400 404", options=options))
    return found
