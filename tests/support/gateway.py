"""A gateway in a thread of its own, and a store of small networks for it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ouzel.gateway.engine import Engine
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses, serving
from ouzel.models import archive
from ouzel.models.architectures import build
from ouzel.models.card import Card
from ouzel.models.preprocessing import Preprocessing

MODEL = "toy"
LABELS = ("grass", "sheep", "goat", "rock", "snow", "wool")
SIZE = 64


def write_store(folder: Path) -> Path:
    """torchvision's SqueezeNet with random weights, in versions 1 (the default) and 2."""
    for version, name in (("1", MODEL), ("2", f"{MODEL}@2")):
        torch.manual_seed(int(version))
        state = build("torchvision:squeezenet1_1", num_classes=len(LABELS), in_channels=3).state_dict()
        state["classifier.1.weight"] *= 40  # loud enough that pictures differ
        preprocessing = Preprocessing(input_size=(SIZE, SIZE), resize=SIZE)
        card = Card(
            name=MODEL,
            version=version,
            arch="torchvision:squeezenet1_1",
            labels=LABELS,
            preprocessing=preprocessing,
            lineage=None if version == "1" else {"owner": "local", "job": "j"},
        )
        archive.write(card, state, folder / f"{name}.mar")
    return folder


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """(count, 80, 72, 3) uint8, which the networks tell apart."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 80, (count, 80, 72, 3))
    return (noise + random.integers(0, 175, (count, 1, 1, 3))).astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def call(
    addresses: Addresses, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers with lower-case names, body) of a request."""
    host, _, port = addresses.rest.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def image(*files: bytes) -> dict[str, Any]:
    """Encoded images as an input of the Open Inference Protocol in JSON."""
    return {
        "name": "image",
        "datatype": "BYTES",
        "shape": [len(files)],
        "data": [base64.b64encode(file).decode() for file in files],
    }


def infer_images(
    addresses: Addresses, model: str, files: Sequence[bytes], outputs: Sequence[str], **more: Any
) -> tuple[int, Any]:
    """(status, answer); without outputs those that are usual."""
    document = {"inputs": [image(*files)], **more}
    if outputs:
        document["outputs"] = [{"name": name} for name in outputs]
    status, _, body = call(addresses, "POST", f"/v2/models/{model}/infer", json.dumps(document).encode())
    return status, json.loads(body)


@contextlib.contextmanager
def gateway(make: Callable[[], Engine], options: GatewayOptions | None = None) -> Iterator[Addresses]:
    """The addresses of a gateway in front of the engine that `make` makes in its event loop."""
    started: list[Addresses] = []
    failed: list[BaseException] = []
    up, stop = threading.Event(), threading.Event()

    async def run() -> None:
        engine = make()
        async with serving(options or GatewayOptions(rest_port=0, grpc_port=0, grace=5), engine) as addresses:
            while not await engine.ready():
                await asyncio.sleep(0.01)
            started.append(addresses)
            up.set()
            await asyncio.to_thread(stop.wait)

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - raised in the test
            failed.append(error)
        finally:
            up.set()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    up.wait(60)
    try:
        if failed:
            raise failed[0]
        yield started[0]
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    if failed:
        raise failed[0]
