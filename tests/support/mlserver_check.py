"""Asks a real server of the Open Inference Protocol, MLServer, over REST and gRPC: `make endpoints`.

MLServer pins versions that do not go with ours, so it gets a virtual environment of its own, in the system's folder for
temporary files. It serves a network of torchvision with random weights; torch comes from our environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from ouzel import models
from ouzel.audit.predictor import ModelPredictor
from ouzel.endpoints.file import parse
from ouzel.endpoints.open import open_endpoint
from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.models import archive
from ouzel.models.architectures import build
from ouzel.models.card import Card
from ouzel.models.preprocessing import Preprocessing
from ouzel.serving import Ports
from support.endpoints import LABELS, MEAN, STD

VERSION = "1.7.1"
ATOL = 1e-5

RUNTIME = """
import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from torchvision.models import squeezenet1_1


class Runtime(MLModel):
    async def load(self) -> bool:
        self.network = squeezenet1_1(num_classes=5)
        self.network.load_state_dict(torch.load(self.settings.parameters.uri, weights_only=True))
        self.network.eval()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        values = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        with torch.no_grad():
            scores = self.network(torch.from_numpy(values)).numpy()
        return InferenceResponse(
            model_name=self.name, model_version=self.version, outputs=[NumpyCodec.encode_output("scores", scores)]
        )
"""

ENDPOINTS = """
[rest]
url = "http://127.0.0.1:{http}/v2/models/toy"

[grpc]
kind = "oip"
model = "toy"
url = "grpc://127.0.0.1:{grpc}"

[wrong-size]
url = "http://127.0.0.1:{http}/v2/models/toy"

[wrong-name]
url = "http://127.0.0.1:{http}/v2/models/other"
"""
COMMON = f"""
labels = {list(LABELS)}
size = [{{size}}, {{size}}]
requests_per_second = 100
input = {{{{ layout = "NCHW", datatype = "FP32", scale = "1/255", mean = {list(MEAN)}, std = {list(STD)} }}}}
output = {{{{ scores = "logits" }}}}
"""


def environment() -> Path:
    """The Python of an environment with MLServer, which is made if it is not there."""
    folder = Path(tempfile.gettempdir()) / f"ouzel-mlserver-{VERSION}-{os.getuid()}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"installing MLServer {VERSION} in {folder} ...")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", f"mlserver=={VERSION}"], check=True
        )
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "torch_of_ouzel.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # searched last
        ready.touch()
    return python


def network(folder: Path) -> models.Model:
    """A small network with random weights, whose last layer is loud enough that pictures differ."""
    torch.manual_seed(0)
    state = build("torchvision:squeezenet1_1", num_classes=5, in_channels=3).state_dict()
    state["classifier.1.weight"] *= 40
    torch.save(state, folder / "weights.pt")
    preprocessing = Preprocessing(input_size=(64, 64), resize=64, mean=MEAN, std=STD)
    card = Card(name="toy", version="3", arch="torchvision:squeezenet1_1", labels=LABELS, preprocessing=preprocessing)
    return models.load(archive.write(card, state, folder / "toy.mar"))


@contextmanager
def serving(python: Path, folder: Path) -> Iterator[Ports]:
    """A server of the network, on free ports."""
    ports = Ports.free()
    settings = {
        "host": "127.0.0.1", "http_port": ports.rest, "grpc_port": ports.grpc,
        "metrics_port": ports.metrics, "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    tensor = {"datatype": "FP32"}
    model = {
        "name": "toy", "implementation": "runtime.Runtime",
        "inputs": [tensor | {"name": "pixels", "shape": [-1, 3, 64, 64]}],
        "outputs": [tensor | {"name": "scores", "shape": [-1, 5]}],
        "parameters": {"uri": str(folder / "weights.pt"), "version": "3"},
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "runtime.py").write_text(textwrap.dedent(RUNTIME))
    log = folder / "mlserver.log"
    with log.open("wb") as file:
        process = subprocess.Popen([python.parent / "mlserver", "start", "."], cwd=folder, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 120
        while not ready(f"http://127.0.0.1:{ports.rest}/v2/models/toy/ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"MLServer did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield ports
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def main() -> None:
    """Compare, print what was seen, and exit with 1 if it is not as expected."""
    os.environ["no_proxy"] = "127.0.0.1"
    python = environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = network(folder)
        pictures = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3)).astype(np.uint8)
        pictures[4:] //= 3
        expected = ModelPredictor(model)(pictures)
        with serving(python, folder) as ports:
            text = ENDPOINTS.format(http=ports.rest, grpc=ports.grpc)
            sections = [section for section in text.split("\n\n") if section.strip()]
            text = "\n".join(
                section + COMMON.format(size=32 if "[wrong-size]" in section else 64) for section in sections
            )
            endpoints = parse(text, folder)
            failures = 0
            for each in ("rest", "grpc"):
                with open_endpoint(endpoints[each]) as asked:
                    gap = float(np.abs(asked(pictures) - expected).max())
                    print(f"{each}: {asked.source}, at most {gap:.1e} from the network itself")
                    failures += not gap <= ATOL
            for each in ("wrong-size", "wrong-name"):
                try:
                    open_endpoint(endpoints[each]).close()
                    print(f"{each}: was not refused")
                    failures += 1
                except FailedPrecondition as error:
                    print(f"{each}: refused: {error}")
                except OuzelError as error:
                    print(f"{each}: {type(error).__name__}: {error}")
                    failures += 1
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
