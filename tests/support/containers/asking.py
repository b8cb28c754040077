"""What a user asks the gateway of the containers, with Ouzel's own client and with HTTP."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image
from skimage import data

from ouzel_client import Client, Explanation, Unauthenticated

_TEXTURES = ("grass", "gravel")
_SECONDS = 900
_KNOWN = 10.0  # s


@dataclass(frozen=True)
class Asked:
    """A client that checks what it is answered.

    Attributes:
        client: Of the gateway.
        rest: URL of its other port.
        key: What both ports want.
        model: Asked about.
    """

    client: Client
    rest: str
    key: str
    model: str

    def close(self) -> None:
        """Ends the connection."""
        self.client.close()

    def explains(self, photo: Path) -> None:
        """Over gRPC and over REST, and not without a key."""
        result = self._known(photo)
        array = result.saliency["grad_cam"].array
        _must(result.labels[0] in ("Egyptian cat", "tabby", "tiger cat"), f"the cat is a {result.labels[0]}")
        _must(bool(np.isfinite(array).all()) and float(np.ptp(array)) > 0, "the map says nothing")
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "image/png", "Accept": "image/png"}
        headers["X-Ouzel-Options"] = '{"saliency": ["grad_cam"]}'
        url = f"{self.rest}/v1/models/{self.model}/explain"
        with urlopen(Request(url, photo.read_bytes(), headers), timeout=60) as answer:
            _must(answer.read(8) == b"\x89PNG\r\n\x1a\n", "REST answers no picture")
        try:
            urlopen(Request(url, photo.read_bytes(), {"Content-Type": "image/png"}), timeout=60).close()
            status = 200
        except OSError as error:
            status = getattr(error, "code", 0)
        _must(status == 401, f"without a key REST answers {status}")
        print(f"ok   explained over gRPC and REST: {result.labels[0]} ({result.scores[0]:.2f})", flush=True)

    def _known(self, photo: Path) -> Explanation:
        """The first answer: a new key is known to the gateway within a second, and not before."""
        end = time.monotonic() + _KNOWN
        while True:
            try:
                return self.client.models[self.model].explain(photo, saliency="grad_cam")
            except Unauthenticated:
                if time.monotonic() >= end:
                    raise
            time.sleep(0.1)

    def maximizes(self) -> str:
        """The id of a job that has found a picture."""
        job = self.client.jobs.maximize(self.model, layer="blocks.2", channel=3, parameters={"steps": 8})
        result = job.result(timeout=_SECONDS)
        _must(result.image.size[0] > 0, "there is no picture")
        print(f"ok   maximize: a picture of {result.image.size[0]} x {result.image.size[1]}", flush=True)
        return job.id

    def tunes(self, folder: Path) -> None:
        """The tuned model is served, for the first time anybody asks."""
        dataset = self.client.datasets.upload(folder, progress=False)
        job = self.client.jobs.finetune(
            self.model, dataset, name="textures", recipe="feature_extractor", image_size=64, promote="always"
        )
        result = job.result(timeout=_SECONDS)
        image = next((folder / _TEXTURES[0]).iterdir())
        labels = self.client.models["textures"].explain(image, saliency="gradient").labels
        _must(set(labels) == set(_TEXTURES), f"the tuned model knows {labels}")
        print(f"ok   finetune: {result.model}@{result.version} is served, and says {labels[0]} of grass", flush=True)

    def remembers(self, job: str) -> None:
        """The worker still knows a job, and its picture, after a restart."""
        again = self.client.jobs.get(job)
        _must(again.result(timeout=60).image.size[0] > 0, "the picture is gone")
        print("ok   the job and its picture are there after the restart", flush=True)


def ask(grpc: str, rest: str, key: str, model: str) -> Asked:
    """A client of the gateway at "host:port" and at a URL."""
    return Asked(Client(grpc, token=key, worker=grpc, worker_token=key), rest, key, model)


def photographs(folder: Path) -> tuple[Path, Path]:
    """A photograph of a cat, and a folder with small crops of two textures."""
    photo = folder / "cat.png"
    Image.fromarray(data.chelsea()).save(photo)
    for name in _TEXTURES:
        (folder / "textures" / name).mkdir(parents=True)
        image = Image.fromarray(getattr(data, name)()).convert("RGB")
        for number in range(12):
            left, top = 128 * (number % 4), 128 * (number // 4)
            image.crop((left, top, left + 64, top + 64)).save(folder / "textures" / name / f"{number}.png")
    return photo, folder / "textures"


def _must(good: bool, words: str) -> None:
    if not good:
        sys.exit(f"FAIL {words}")
