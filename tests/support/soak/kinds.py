"""The kinds of calls of the soak: each with the statuses that it allows."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from ouzel_client import Client, OuzelError
from support import oip_bytes as wire
from support import pictures
from support.front_door import FrontDoor, Key, metadata
from support.reliability import cases, files

METHODS = ("gradient", "guided", "grad_cam", "layer_cam", "input_x_gradient")
BODY_TIMEOUT = 5.0  # s, of the gateway: slow bodies end sooner


@dataclass
class Load:
    """What calls share.

    Attributes:
        target: What is called.
        client: With the present key.
        datasets: Uploaded, oldest first.
    """

    target: cases.Target
    client: Client
    datasets: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def door(self) -> FrontDoor:
        return self.target.door

    @property
    def key(self) -> Key:
        """The present one."""
        return self.target.key

    @property
    def headers(self) -> dict[str, str]:
        return _bearer(self.key)


def _bearer(key: Key) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.text}"}


@dataclass(frozen=True)
class Kind:
    """One kind of call.

    Attributes:
        name: For the table.
        weight: How often it is made.
        ask: Makes it, and tells its status.
        allowed: Its statuses.
    """

    name: str
    weight: float
    ask: Callable[[Load], str]
    allowed: frozenset[str]


def _picture() -> bytes:
    return files.encoded(files.photograph(240, 200, random.randrange(2**30)), random.choice(("PNG", "JPEG", "WEBP")))


def _explain(load: Load) -> str:
    methods = random.sample(METHODS, random.randint(0, 2))
    found = load.client.models[load.target.model].explain(_picture(), saliency=methods, top_k=3)
    if len(found.labels) != 3 or len(found.saliency) != len(methods):
        return "WRONG"
    return "OK"


def _infer_rest(load: Load) -> str:
    """Several rows, by the binary extension of the Open Inference Protocol."""
    rows = random.randint(1, 3)
    content = wire.elements(*(_picture() for _ in range(rows)))
    image = {"name": "image", "datatype": "BYTES", "shape": [rows], "parameters": {"binary_data_size": len(content)}}
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in ("scores", "saliency")]
    head = json.dumps({"inputs": [image], "outputs": outputs}).encode()
    headers = load.headers | {"Inference-Header-Content-Length": str(len(head))}
    status, answered, body = load.door.ask("POST", f"/v2/models/{load.target.model}/infer", head + content, headers)
    if status == 200:
        told = json.loads(body[: int(answered["inference-header-content-length"])])
        if [each["shape"][0] for each in told["outputs"]] != [rows, rows]:
            return "WRONG"
    return str(status)


def _explain_rest(load: Load) -> str:
    accept = random.choice(("image/png", "application/json", "application/x-protobuf"))
    headers = load.headers | {"X-Ouzel-Options": '{"saliency": ["guided"]}', "Accept": accept}
    status, _, body = load.door.ask("POST", f"/v1/models/{load.target.model}/explain", _picture(), headers)
    return "WRONG" if status == 200 and not body else str(status)


def _metadata(load: Load) -> str:
    path = random.choice(("/v2", "/v2/health/ready", f"/v2/models/{load.target.model}", "/openapi.json"))
    return str(load.door.ask("GET", path, headers=load.headers)[0])


def _describe(load: Load) -> str:
    load.client.models.list()
    list(load.client.jobs.list())
    return "OK"


def _bad(load: Load) -> str:
    """One of the bad inputs, over one of the protocols."""
    case = random.choice(_BAD)
    over_grpc = random.random() < 0.5
    ask, allowed = (case.grpc, case.told) if over_grpc else (case.rest, case.status)
    assert ask is not None
    answer = ask(load.target)
    return "as expected" if answer.status in allowed else f"{case.row} {case.what}: {answer.status} {answer.words:.80}"


def _disconnect(load: Load) -> str:
    """Leaves with the request under way, over either protocol."""
    options = json.dumps({"saliency": [{"method": "smoothgrad", "samples": 24}]})
    if random.random() < 0.5:
        connection = load.door.connection()
        try:
            path = f"/v1/models/{load.target.model}/explain"
            connection.request("POST", path, files.JPEG, load.headers | {"X-Ouzel-Options": options})
            time.sleep(random.uniform(0.02, 0.3))
        finally:
            connection.close()
        return "left"
    message = wire.infer(
        load.target.model, [wire.tensor("image", "BYTES", (1,))], [wire.elements(files.JPEG)],
        parameters=[wire.parameter("method", "smoothgrad"), wire.parameter("samples", 24)],
        outputs=[wire.chunk(1, "saliency")],
    )  # fmt: skip
    call = load.target.channel.unary_unary(cases.INFER).future(message, metadata=metadata(load.key), timeout=60)
    time.sleep(random.uniform(0.02, 0.3))
    call.cancel()
    return "left"


def _deadline(load: Load) -> str:
    message = wire.infer(
        load.target.model, [wire.tensor("image", "BYTES", (1,))], [wire.elements(files.JPEG)],
        parameters=[wire.parameter("method", "smoothgrad"), wire.parameter("samples", 512)],
        outputs=[wire.chunk(1, "saliency")],
    )  # fmt: skip
    try:
        load.target.channel.unary_unary(cases.INFER)(message, metadata=metadata(load.key), timeout=0.2)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def _slow_body(load: Load) -> str:
    """Begins a body and does not end it: it is told so, and the connection is closed."""
    connection = load.door.connection(60)
    try:
        connection.putrequest("POST", f"/v2/models/{load.target.model}/infer")
        for name, value in (load.headers | {"Content-Length": "1000"}).items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(b"{")
        return str(connection.getresponse().status)
    finally:
        connection.close()


def _silent(load: Load) -> str:
    """A stream that never sends its message."""
    over = threading.Event()

    def nothing():  # type: ignore[no-untyped-def]
        over.wait(60)
        yield from ()

    try:
        load.target.channel.stream_unary(cases.INFER)(nothing(), metadata=metadata(load.key), timeout=60)
    except grpc.RpcError as error:
        return str(error.code().name)
    finally:
        over.set()
    return "OK"


def _silent_stranger(load: Load) -> str:
    over = threading.Event()

    def nothing():  # type: ignore[no-untyped-def]
        over.wait(60)
        yield from ()

    try:
        load.target.channel.stream_unary(cases.INFER)(nothing(), timeout=60)
    except grpc.RpcError as error:
        return str(error.code().name)
    finally:
        over.set()
    return "OK"


def _job(load: Load) -> str:
    job = load.client.jobs.maximize(
        load.target.model, logit=random.randrange(1000), recipe="pixel", parameters={"steps": 4}
    )
    job.wait(300)
    found = job.result()
    job.delete()
    return "OK" if found.images else "WRONG"


def _dataset(load: Load) -> str:
    """Uploads one, and deletes the one before."""
    with tempfile.TemporaryDirectory() as place:
        for label in ("a", "b"):
            (Path(place) / label).mkdir()
            for number in range(3):
                Image.fromarray(pictures.picture(random.randrange(2**30))).save(Path(place) / label / f"{number}.png")
        dataset = load.client.datasets.upload(place, progress=False)
    with load.lock:
        old, load.datasets = load.datasets, [dataset.id]
    for each in old:
        load.client.datasets.delete(each)
    return "OK"


def _audit(load: Load) -> str:
    mask = np.zeros((200, 240), np.uint8)
    mask[60:140, 60:180] = 255
    found = load.client.audit(
        files.encoded(files.photograph(seed=random.randrange(2**30))), claimed=random.randrange(1000),
        model=load.target.model, mask=mask, pictures=False,
    )  # fmt: skip
    return "OK" if found.verdict else "WRONG"


def _rotate(load: Load) -> str:
    """A new key; the old one goes on working for a minute, and for calls under way. Old ones stay behind, ended."""
    new = load.door.keys.rotate(load.key, timedelta(minutes=1))
    deadline = time.monotonic() + 10
    while load.door.ask("GET", f"/v2/models/{load.target.model}", headers=_bearer(new))[0] != 200:
        if time.monotonic() > deadline:
            return "not known after 10 s"
        time.sleep(0.2)
    old, load.client = load.client, load.door.client(new, timeout=150)
    load.target.key = new
    time.sleep(30)  # calls of the old client end
    old.close()
    return "OK"


def _certificate(load: Load) -> str:
    """A new certificate, which new connections are shown within seconds."""
    before = _shown(load)
    load.door.certificates.issue()
    deadline = time.monotonic() + 10
    while _shown(load) == before:
        if time.monotonic() > deadline:
            return "not shown after 10 s"
        time.sleep(0.2)
    with load.door.channel() as channel:
        grpc.channel_ready_future(channel).result(30)
    return "OK"


def _shown(load: Load) -> bytes:
    connection = load.door.connection()
    try:
        connection.connect()
        return connection.sock.getpeercert(binary_form=True)  # type: ignore[union-attr, no-any-return]
    finally:
        connection.close()


def _kinds() -> list[Kind]:
    ok, http = frozenset({"OK"}), frozenset({"200"})
    late = frozenset({"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})  # the latter: it would be late, by what others took
    return [
        Kind("explain (client, gRPC)", 30, _explain, ok),
        Kind("infer (binary, REST)", 15, _infer_rest, http),
        Kind("explain (REST)", 10, _explain_rest, http),
        Kind("metadata, health, OpenAPI (REST)", 10, _metadata, http),
        Kind("lists of models and jobs (gRPC)", 5, _describe, ok),
        Kind("bad input", 15, _bad, frozenset({"as expected"})),
        Kind("disconnect", 3, _disconnect, frozenset({"left"})),
        Kind("deadline of 200 ms", 3, _deadline, late),
        Kind("slow body", 1, _slow_body, frozenset({"408"})),
        Kind("silent stream", 1, _silent, frozenset({"DEADLINE_EXCEEDED"})),
        Kind("silent stream of a stranger", 1, _silent_stranger, frozenset({"UNAUTHENTICATED"})),
        Kind("job: maximize", 0.5, _job, ok),
        Kind("data set", 0.7, _dataset, ok),
        Kind("audit", 0.4, _audit, ok),
    ]


_BAD = [each for each in cases.cases() if each.row not in (4, 8)]
_BAD += [each for each in cases.cases() if each.row == 8 and "has" not in each.what]
_BAD += [cases.bomb(68 * 2**20), cases.large(65 * 2**20), *(each for each in cases.cases() if "metadata" in each.what)]
KINDS = _kinds()
ROTATE = Kind("key rotated", 0, _rotate, frozenset({"OK"}))
RELOAD = Kind("certificate replaced", 0, _certificate, frozenset({"OK"}))


def made(kind: Kind, load: Load) -> str:
    """The status of one call of a kind."""
    try:
        return kind.ask(load)
    except OuzelError as error:
        return f"{type(error).__name__}: {str(error)[:120]}"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
        return f"{type(error).__name__}: {str(error)[:120]}"


def foreign_job(door: FrontDoor, model: str) -> str:
    """The id of a job of the other tenant."""
    with contextlib.closing(door.client(door.foreign, timeout=150)) as client:
        return client.jobs.maximize(model, logit=0, recipe="pixel", parameters={"steps": 1}).id
