"""The examples of docs/gateway.md, as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace
from ouzel.ledger import open_ledger
from ouzel.ledger.settings import settings
from ouzel_client.testing import FakeServer
from support.gateway import LABELS, gateway, pictures, png

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
SNIPPETS = re.findall(r"^```(\w+)( \w+)?\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def served(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with FakeServer() as server:
        worker = WorkerOptions(lambda: WorkerPlace(server.target, Path(os.devnull)))
        folder = tmp_path_factory.mktemp("ledger")
        open_ledger(settings(folder)).close()
        options = GatewayOptions(rest_port=0, grpc_port=0, worker=worker, ledger=lambda: folder)
        with gateway(lambda: InProcessEngine(store), options) as addresses:
            yield addresses


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_the_snippets_run(served: Addresses, tmp_path: Path, number: int) -> None:
    language, needs, text = SNIPPETS[number]
    if needs.strip():
        pytest.importorskip("tritonclient.grpc", reason="`make conformance` asks with this client")
    (tmp_path / "cat.png").write_bytes(png(pictures(1)[0]))
    for number, picture in enumerate(pictures(4)):
        file = tmp_path / ("grass", "sheep")[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(png(picture))
    if language == "bash":
        words = ["bash", "-euo", "pipefail", "-c", text]
    else:
        words = [sys.executable, "-c", f"GRPC = {served.grpc!r}\n{text}"]
    environment = os.environ | {"REST": served.rest, "no_proxy": "127.0.0.1"}
    result = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert '"error"' not in result.stdout
    assert '"status"' not in result.stdout
    if "map.png" in text:
        assert Image.open(tmp_path / "map.png").format == "PNG"
    elif "openapi.json" in text:
        assert json.loads((tmp_path / "openapi.json").read_text())["openapi"] == "3.1.0"
    elif "LedgerService" in text:
        assert "ouzel.local/" in json.loads(result.stdout)["note"]
    elif "CreateDataset" in text:
        assert json.loads("{" + result.stdout.rpartition("}{")[2])["classes"] == {"grass": "2", "sheep": "2"}
    else:
        assert any(label in result.stdout for label in LABELS)
