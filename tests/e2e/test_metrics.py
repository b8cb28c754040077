"""`ouzel up` and the gateway with traces, JSON logs and metrics: by variables alone, through all of their processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from ouzel.serving import Ports
from ouzel.torchserve import log, rest
from ouzel_protos.local import read_serving, token
from support.gateway import pictures, png, write_store
from support.jobs import until
from support.metrics import Metrics
from support.otlp import Collector, Span, collector
from support.services import write_archive

pytestmark = pytest.mark.e2e
_CLI = "from ouzel_client._cli.main import main; main()"

# An application that has set up OpenTelemetry for itself.
_APPLICATION = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from ouzel_client import Client

provider = TracerProvider(resource=Resource.create({"service.name": "application"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
picture = open(sys.argv[2], "rb").read()
target = sys.argv[1] or None
with Client(target, worker=target) as client, trace.get_tracer("application").start_as_current_span(sys.argv[3]):
    client.models["toy"].explain(picture, saliency="gradient")
    if target:
        job = client.jobs.maximize("toy", logit="goat", recipe="pixel", parameters={"steps": 4})
        list(job.events())
        print(job.result().images is not None)
provider.shutdown()
"""


@dataclass
class Services:
    environment: dict[str, str]
    state: Path
    collected: Collector
    rest: str
    grpc: str
    door_log: Path


@contextmanager
def front_door(environment: dict[str, str], folder: Path) -> Iterator[tuple[str, str, Path]]:
    log = folder / "gateway.log"
    command = [sys.executable, "-m", "ouzel.cli.gateway", "--rest-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    with log.open("w") as errors:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"REST is served at (\S+), gRPC at (\S+)\. ", process.stdout.readline())
        assert match, log.read_text()
        yield match[1], match[2], log
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    store = folder / "store"
    store.mkdir()
    ports = {f"OUZEL_{name.upper()}_PORT": str(port) for name, port in asdict(Ports.free()).items()}
    with collector() as collected:
        own = {
            "OUZEL_STATE": str(folder / "state"),
            "OUZEL_MODEL_STORE": str(write_store(store)),
            "OUZEL_WORKER_METRICS_PORT": "0",
            "OUZEL_LOG_FORMAT": "json",
            "OUZEL_THREADS": "1",
        }
        environment = os.environ | ports | own | collected.environment
        subprocess.run([sys.executable, "-c", _CLI, "up", "--detach"], env=environment, check=True, timeout=180)
        try:
            with front_door(environment, folder) as (rest, grpc, log):
                yield Services(environment, folder / "state", collected, rest, grpc, log)
        finally:
            subprocess.run([sys.executable, "-c", _CLI, "down"], env=environment, check=True, timeout=120)


def application(services: Services, target: str, name: str) -> None:
    picture = services.state / "picture.png"
    picture.write_bytes(png(pictures(1)[0]))
    words = [sys.executable, "-c", _APPLICATION, target, str(picture), name]
    done = subprocess.run(words, env=services.environment, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def path(spans: list[Span], last: Span) -> list[tuple[str, str]]:
    """(service, name) of a span and of all above it, the first one first."""
    known = {each.id: each for each in spans}
    found = [last]
    while found[0].parent in known:
        found.insert(0, known[found[0].parent])
    return [(each.service, each.name) for each in found]


def test_one_trace_goes_from_an_application_to_stages_of_a_model_and_phases_of_a_job(
    services: Services,
) -> None:
    application(services, services.grpc, "through the door")
    until(lambda: bool(services.collected.named("job maximize")))
    (root,) = services.collected.named("through the door")
    spans = [each for each in services.collected.spans if each.trace == root.trace]
    (explained,) = [each for each in spans if each.name == "explain"]
    assert path(spans, explained) == [
        ("application", "through the door"),
        ("application", "InferenceAPIsService/Predictions"),
        ("ouzel-gateway", "Predictions"),
        ("ouzel-gateway", "torchserve/Predictions"),
        ("ouzel-model", "explain"),
    ]
    assert {"decode", "compute"} <= {each.name for each in spans if each.parent == explained.id}
    (run,) = [each for each in spans if each.name == "job maximize"]
    assert path(spans, run) == [
        ("application", "through the door"),
        ("application", "JobService/CreateJob"),
        ("ouzel-gateway", "JobService/CreateJob"),
        ("ouzel-worker", "JobService/CreateJob"),
        ("ouzel-job", "job maximize"),
    ]
    phases = {each.name for each in spans if each.parent == run.id}
    assert "publish" in phases
    assert len(phases) > 1
    assert {each.trace for each in services.collected.spans if each.service != "application"} == {root.trace}
    values = [str(value) for each in spans for value in each.attributes.values()]
    assert max(map(len, values)) < 60  # names, codes and sizes; no image fits


def test_a_trace_reaches_a_model_without_the_door(services: Services) -> None:
    application(services, "", "straight")
    until(lambda: len(services.collected.named("explain")) == 2)
    (root,) = services.collected.named("straight")
    spans = [each for each in services.collected.spans if each.trace == root.trace]
    (explained,) = [each for each in spans if each.name == "explain"]
    assert [service for service, _ in path(spans, explained)] == ["application", "application", "ouzel-model"]


def test_logs_of_all_parts_are_json(services: Services) -> None:
    """And what is found in them still is: here by the gateway's ids, and by traces."""

    def lines(file: Path) -> list[dict[str, Any]]:
        return [json.loads(each) for each in file.read_text().splitlines()]

    (job,) = services.collected.named("job maximize")
    own = services.state / "jobs" / "logs" / f"{job.attributes['ouzel.job']}-1.log"
    lines(own)
    for name in ("torchserve.log", "worker.log", "supervisor.log"):
        told = lines(services.state / name)
        assert told, name
        assert all({"time", "level", "logger", "message"} <= each.keys() for each in told)
    assert any("weights sha256" in each["message"] for each in lines(services.state / "torchserve.log"))
    calls = [each for each in lines(services.door_log) if each["logger"] == "ouzel.gateway.calls"]
    (root,) = services.collected.named("through the door")
    assert {each["trace_id"] for each in calls} == {root.trace}
    assert {"Predictions", "JobService/CreateJob", "JobService/WatchJob"} <= {each["method"] for each in calls}


def test_a_model_that_does_not_load_is_still_explained(services: Services) -> None:
    """What is looked for in TorchServe's log is found there in either layout."""
    record = read_serving(services.state)
    assert record is not None
    write_archive(Path(record["model_store"]) / "broken.mar", 'raise RuntimeError("no such thing")')
    query = "/models?url=broken.mar&initial_workers=1&synchronous=true"
    status, _ = rest.call("POST", record["management"] + query, token(record["key_file"], "management"))
    assert status == 500
    until(lambda: log.reason(log.read(services.state / log.FILE), "broken") == "RuntimeError: no such thing", 120)


def test_every_part_tells_its_numbers(services: Services) -> None:
    record = read_serving(services.state)
    assert record is not None

    def of_models() -> Metrics:
        return Metrics(f"{record['metrics']}/metrics")

    until(lambda: of_models().value("ouzel_explain_rows_total", ModelName="toy", Code="OK") >= 2)
    numbers = of_models()
    for name in ("decode", "preprocess", "copy", "compute", "encode"):
        assert numbers.value(f"ouzel_explain_{name}_seconds_count", ModelName="toy") >= 2
    assert numbers.value("ouzel_explain_batch_rows_sum", ModelName="toy") >= 2
    assert numbers.value("ouzel_explain_resident_bytes", ModelName="toy") > 2**20
    assert "QueueTime_count" in numbers.samples
    for file, name in (
        (services.door_log, "ouzel_gateway_rows_total"),
        (services.state / "worker.log", "ouzel_worker_claims_total"),
    ):
        match = re.search(r"http://\S+/metrics", file.read_text())
        assert match
        assert Metrics(match[0]).value(name) >= 1
