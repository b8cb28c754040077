"""Asks real servers of the Open Inference Protocol, MLServer and KServe's, over REST and gRPC: `make endpoints`.

They pin versions that do not go with ours, so each gets a virtual environment of its own, in the system's folder for
temporary files. They serve a network of torchvision with random weights; torch comes from our environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from ouzel import models
from ouzel.audit.predictor import ModelPredictor
from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.file import parse
from ouzel.endpoints.open import open_endpoint
from ouzel.errors import FailedPrecondition, OuzelError
from ouzel.models import archive
from ouzel.models.architectures import build
from ouzel.models.card import Card
from ouzel.models.preprocessing import Preprocessing
from ouzel.serving import Ports
from support.endpoints import LABELS, MEAN, STD

ATOL = 1e-5

MLSERVER = """
import numpy as np
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from torchvision.models import squeezenet1_1


class Runtime(MLModel):
    async def load(self) -> bool:
        self.network = squeezenet1_1(num_classes=5)
        self.network.load_state_dict(torch.load("weights.pt", weights_only=True))
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

KSERVE = """
import torch
from kserve import InferOutput, InferResponse, Model, ModelServer
from torchvision.models import squeezenet1_1


class Runtime(Model):
    def __init__(self):
        super().__init__("toy")
        self.network = squeezenet1_1(num_classes=5)
        self.network.load_state_dict(torch.load("weights.pt", weights_only=True))
        self.network.eval()
        self.ready = True

    async def get_input_types(self):
        return [{"name": "pixels", "datatype": "FP32", "shape": [-1, 3, 64, 64]}]

    async def get_output_types(self):
        return [{"name": "scores", "datatype": "FP32", "shape": [-1, 5]}]

    def predict(self, payload, headers=None, response_headers=None):
        with torch.no_grad():
            scores = self.network(torch.from_numpy(payload.inputs[0].as_numpy().copy())).numpy()
        output = InferOutput("scores", list(scores.shape), "FP32")
        binary = payload.from_grpc or any(each.binary_data for each in payload.request_outputs or ())
        output.set_data_from_numpy(scores, binary_data=binary)
        return InferResponse(response_id=payload.id, model_name="toy", infer_outputs=[output])


ModelServer().start([Runtime()])
"""

ENDPOINTS = {
    "rest": 'url = "http://127.0.0.1:{http}/v2/models/toy"',
    "binary": 'url = "http://127.0.0.1:{http}/v2/models/toy"\ntransfer = "binary"',
    "grpc": 'kind = "oip"\nmodel = "toy"\nurl = "grpc://127.0.0.1:{grpc}"',
    "wrong-size": 'url = "http://127.0.0.1:{http}/v2/models/toy"',
    "wrong-name": 'url = "http://127.0.0.1:{http}/v2/models/other"',
}
COMMON = f"""
labels = {list(LABELS)}
requests_per_second = 100
input = {{ layout = "NCHW", datatype = "FP32", scale = "1/255", mean = {list(MEAN)}, std = {list(STD)} }}
output = {{ scores = "logits" }}
"""


def environment(package: str, version: str) -> Path:
    """The Python of an environment with the package, which is made if it is not there."""
    folder = Path(tempfile.gettempdir()) / f"ouzel-{package}-{version}-{os.getuid()}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"installing {package} {version} in {folder} ...")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", f"{package}=={version}"]
        subprocess.run(install, check=True)
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "torch_of_ouzel.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # searched last
        ready.touch()
    return python


def mlserver(python: Path, folder: Path, ports: Ports) -> list[str | Path]:
    """The command of a server of the network."""
    settings = {
        "host": "127.0.0.1", "http_port": ports.rest, "grpc_port": ports.grpc, "metrics_port": ports.metrics,
        "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    tensor = {"datatype": "FP32"}
    model = {
        "name": "toy", "implementation": "runtime.Runtime", "parameters": {"version": "3"},
        "inputs": [tensor | {"name": "pixels", "shape": [-1, 3, 64, 64]}],
        "outputs": [tensor | {"name": "scores", "shape": [-1, 5]}],
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "runtime.py").write_text(MLSERVER)
    return [python.parent / "mlserver", "start", "."]


def kserve(python: Path, folder: Path, ports: Ports) -> list[str | Path]:
    """The command of a server of the network."""
    (folder / "serve.py").write_text(KSERVE)
    return [python, "serve.py", "--http_port", str(ports.rest), "--grpc_port", str(ports.grpc)]


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
def running(command: list[str | Path], folder: Path, ports: Ports) -> Iterator[None]:
    """Runs a server from when it is ready."""
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 120
        while not ready(f"http://127.0.0.1:{ports.rest}/v2/models/toy/ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield
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


def compare(name: str, endpoints: Mapping[str, Endpoint], expected: np.ndarray, pictures: np.ndarray) -> int:
    """Asks the endpoints, prints what was seen, and returns how many did something else than they should."""
    failures = 0
    for key, endpoint in endpoints.items():
        try:
            with open_endpoint(endpoint) as asked:
                gap = float(np.abs(asked(pictures) - expected).max())
                print(f"{name}, {key}: at most {gap:.1e} from the network itself")
                failures += key.startswith("wrong") or not gap <= ATOL
        except OuzelError as error:
            print(f"{name}, {key}: {type(error).__name__}: {error}")
            failures += not (key.startswith("wrong") and isinstance(error, FailedPrecondition))
    return failures


SERVERS = {  # version, command, ways in which it is asked
    "mlserver": ("1.7.1", mlserver, ("rest", "grpc", "wrong-size", "wrong-name")),  # it has no binary extension
    "kserve": ("0.21.0", kserve, tuple(ENDPOINTS)),
}


def main() -> None:
    """Compare with all servers, and exit with 1 if something is not as expected."""
    os.environ["no_proxy"] = "127.0.0.1"
    pictures = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3)).astype(np.uint8)
    pictures[4:] //= 3
    failures = 0
    for name, (version, command, ways) in SERVERS.items():
        python, ports = environment(name, version), Ports.free()
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            expected = ModelPredictor(network(folder))(pictures)
            text = (
                "".join(
                    f"[{way}]\n{ENDPOINTS[way]}\nsize = {[32, 32] if way == 'wrong-size' else [64, 64]}{COMMON}"
                    for way in ways
                )
                .replace("{http}", str(ports.rest))
                .replace("{grpc}", str(ports.grpc))
            )
            with running(command(python, folder, ports), folder, ports):
                failures += compare(name, parse(text, folder), expected, pictures)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
