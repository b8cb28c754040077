"""What the gateway tells of its calls: numbers, a line for each, ids."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import grpc
import pytest

from ouzel.errors import ResourceExhausted, Unauthenticated
from ouzel.gateway.access.caller import ROLES, Caller, TenantLimits
from ouzel.gateway.engine import Description, Row
from ouzel.gateway.observing.metrics import GatewayMetrics
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace
from ouzel.telemetry.metrics import MetricsOptions
from ouzel_client.testing import FakeServer
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.torchserve.inference_pb2 import PredictionsRequest
from ouzel_protos.v1 import explain_pb2, job_pb2
from support import oip_bytes as wire
from support.gateway import call, gateway, pictures, png
from support.metrics import Metrics

INFER = "/inference.GRPCInferenceService/ModelInfer"
FILE = png(pictures(1)[0])
KNOWN = "m"


class Named:
    """Access by a name as the token; `late` has used up its quota."""

    def identify(self, authorization: str | None, _certificate: object) -> Caller:
        name = (authorization or "").removeprefix("Bearer ")
        if name not in ("ann", "late"):
            raise Unauthenticated("who is that?")
        return Caller("local", name, frozenset(ROLES) - {"audit"}, ("*",), TenantLimits())

    def admit(self, caller: Caller, role: str, model: str | None = None) -> AbstractContextManager[None]:
        caller.need(role, model)
        if caller.name == "late":
            raise ResourceExhausted("too many")
        return nullcontext()


class Small:
    """An engine of one model, which answers at once."""

    def stalled(self, model: str, version: str) -> float:
        return 0.0

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list:
        await self.describe(model, version)
        answer = explain_pb2.Explanation(model=explain_pb2.ModelInfo(name=model, version="1"))
        answer.scores.add(index=0, label="cat", probability=1.0)
        return [answer] * len(rows)

    async def describe(self, model: str, version: str) -> Description:
        from ouzel.errors import NotFound

        if model != KNOWN:
            raise NotFound(f"model: there is no model {model!r}", field="model")
        return Description(KNOWN, "1", ("1",), ("cat",), (3, 8, 8))

    async def models(self) -> list[Description]:
        return [await self.describe(KNOWN, "")]

    async def ready(self) -> bool:
        return True

    async def start(self) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture(scope="module")
def addresses() -> Iterator[Addresses]:
    with FakeServer({"m": ("cat", "dog")}) as worker:
        options = GatewayOptions(
            rest_port=0,
            grpc_port=0,
            grace=3,
            access=Named(),
            max_rows_under_way=4,
            worker=WorkerOptions(lambda: WorkerPlace(worker.target, Path(os.devnull))),
            metrics=MetricsOptions(0),
        )
        with gateway(Small, options) as found:
            yield found


def as_caller(name: str = "ann", **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}", **more}


def infer(model: str, rows: int = 1) -> bytes:
    return wire.infer(model, [wire.tensor("image", "BYTES", (rows,))], [wire.elements(*[FILE] * rows)])


def grpc_call(addresses: Addresses, path: str, content: bytes, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """(status, trailing metadata)."""
    with grpc.insecure_channel(addresses.grpc) as channel:
        ask = channel.unary_unary(path)
        try:
            _, done = ask.with_call(content, timeout=20, metadata=tuple(headers.items()))
        except grpc.RpcError as error:
            done = error
        return done.code().name, dict(done.trailing_metadata())


def test_calls_are_counted_by_method_and_code(addresses: Addresses) -> None:
    before = Metrics(addresses.metrics)
    assert grpc_call(addresses, INFER, infer(KNOWN, 3), as_caller())[0] == "OK"
    assert grpc_call(addresses, INFER, infer("gone"), as_caller())[0] == "NOT_FOUND"
    assert grpc_call(addresses, INFER, infer(KNOWN, 5), as_caller())[0] == "RESOURCE_EXHAUSTED"  # more than 4 rows
    asked = PredictionsRequest(model_name=KNOWN, input={"image": FILE}).SerializeToString()
    assert grpc_call(addresses, PREDICTIONS, asked, as_caller())[0] == "OK"
    body = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AA=="]}]}).encode()
    assert call(addresses, "POST", f"/v2/models/{KNOWN}/infer", body, as_caller())[0] == 200
    assert call(addresses, "POST", f"/v1/models/{KNOWN}/explain", b"", as_caller())[0] == 400
    assert call(addresses, "POST", "/v1/JobService/ListJobs", b"{}", as_caller())[0] == 200
    jobs = job_pb2.ListJobsRequest().SerializeToString()
    assert grpc_call(addresses, "/ouzel.v1.JobService/ListJobs", jobs, as_caller())[0] == "OK"
    after = Metrics(addresses.metrics)

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    requests = "ouzel_gateway_requests_total"
    explain, infer_route = "POST /v1/models/{model}/explain", "POST /v2/models/{model}/infer"
    for protocol, method, code, count in [
        ("grpc", "ModelInfer", "OK", 1),
        ("grpc", "ModelInfer", "NOT_FOUND", 1),
        ("grpc", "ModelInfer", "RESOURCE_EXHAUSTED", 1),
        ("grpc", "Predictions", "OK", 1),
        ("rest", infer_route, "OK", 1),
        ("rest", explain, "INVALID_ARGUMENT", 1),
        ("rest", "JobService/ListJobs", "OK", 1),
        ("grpc", "JobService/ListJobs", "OK", 1),
    ]:
        assert more(requests, protocol=protocol, method=method, code=code) == count, (protocol, method, code)
    assert more(requests) == 8
    assert more("ouzel_gateway_request_seconds_count") == 8
    assert more("ouzel_gateway_engine_seconds_count") == 3
    assert more("ouzel_gateway_rows_total", model=KNOWN) == 5
    assert more("ouzel_gateway_shed_total") == 1
    assert more("ouzel_gateway_received_bytes_total", protocol="rest") == len(body) + len(b"{}")
    sent = len(infer(KNOWN, 3)) + len(infer("gone")) + len(infer(KNOWN, 5)) + len(asked) + len(jobs)
    assert more("ouzel_gateway_received_bytes_total", protocol="grpc") == sent
    assert more("ouzel_gateway_sent_bytes_total", protocol="grpc") > 0
    assert after.value("ouzel_gateway_rows_under_way") == after.value("ouzel_gateway_calls_under_way") == 0


def test_who_is_refused_at_the_door_is_counted(addresses: Addresses) -> None:
    before = Metrics(addresses.metrics)
    assert grpc_call(addresses, INFER, infer(KNOWN), {})[0] == "UNAUTHENTICATED"
    assert call(addresses, "GET", f"/v2/models/{KNOWN}")[0] == 401
    assert grpc_call(addresses, INFER, infer(KNOWN), as_caller("late"))[0] == "RESOURCE_EXHAUSTED"
    assert grpc_call(addresses, "/ouzel.v1.AuditService/AuditPrediction", b"", as_caller())[0] == "PERMISSION_DENIED"
    after = Metrics(addresses.metrics)
    for code, count in (("UNAUTHENTICATED", 2), ("RESOURCE_EXHAUSTED", 1), ("PERMISSION_DENIED", 1)):
        name = "ouzel_gateway_denied_total"
        assert after.value(name, code=code) - before.value(name, code=code) == count
    assert after.value("ouzel_gateway_shed_total") == before.value("ouzel_gateway_shed_total")


def test_strangers_choose_no_label(addresses: Addresses) -> None:
    """Models, versions, paths, methods, ids: whatever is made up, the numbers have no more rows than before."""

    def make_up(number: int) -> None:
        name = f"made-up-{number}"
        for caller in (as_caller(**{"x-request-id": name}), {}):
            grpc_call(addresses, INFER, infer(name), caller)
            grpc_call(addresses, PREDICTIONS, PredictionsRequest(model_name=name).SerializeToString(), caller)
            grpc_call(addresses, f"/inference.GRPCInferenceService/{name}", b"", caller)
            grpc_call(addresses, f"/ouzel.v1.JobService/{name}", b"", caller)
            for method, path in [
                ("POST", f"/v2/models/{name}/infer"),
                ("POST", f"/v2/models/{KNOWN}/versions/{name}/infer"),
                ("GET", f"/v2/models/{name}"),
                ("POST", f"/v1/models/{name}/explain"),
                ("POST", f"/v1/{name}/{name}"),
                ("POST", f"/v1/JobService/{name}"),
                ("GET", f"/{name}"),
                ("X" + name, "/v2"),
                ("DELETE", "/v2/health/live"),
            ]:
                call(addresses, method, path, b"", caller)

    make_up(0)
    before = Metrics(addresses.metrics)
    for number in range(1, 4):
        make_up(number)
    after = Metrics(addresses.metrics)
    rows = {name: len(samples) for name, samples in before.samples.items()}
    assert {name: len(samples) for name, samples in after.samples.items()} == rows
    assert "made-up" not in after.text
    assert after.values_of("ouzel_gateway_rows_total", "model") == {KNOWN}


def test_models_that_are_counted_by_name_are_bounded() -> None:
    numbers = GatewayMetrics()
    for number in range(1200):
        numbers.answered(f"model-{number}", 1)
    rows = [
        each for family in numbers.registry.collect() for each in family.samples if each.name.endswith("rows_total")
    ]
    assert len(rows) == 1001
    assert {each.labels["model"]: each.value for each in rows}["other"] == 200


def test_ids_are_answered_and_made_where_they_are_missing(addresses: Addresses) -> None:
    for sent in ("abc-1", "", "two words", "x" * 129, "\u00e9".encode().decode("latin-1")):
        headers = as_caller(**({"X-Request-Id": sent} if sent else {}))
        answered = call(addresses, "GET", f"/v2/models/{KNOWN}", None, headers)[1]["x-request-id"]
        assert (answered == sent) == (sent == "abc-1")
        assert answered
        assert answered.isascii()
    for path, content, code in [
        (INFER, infer(KNOWN), "OK"),
        (INFER, infer("gone"), "NOT_FOUND"),
        ("/ouzel.v1.JobService/GetJob", job_pb2.GetJobRequest(id="job-1").SerializeToString(), "NOT_FOUND"),
        ("/none.None/None", b"", "UNIMPLEMENTED"),
    ]:
        status, trailing = grpc_call(addresses, path, content, as_caller(**{"x-request-id": "abc-2"}))
        assert (status, trailing["x-request-id"]) == (code, "abc-2")
        assert ("grpc-status-details-bin" in trailing) or code == "OK" or "GetJob" in path
    assert call(addresses, "GET", "/nowhere", None, {"x-request-id": "abc-3"})[1]["x-request-id"] == "abc-3"


def test_the_process_tells_each_call_in_a_line(store: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "ouzel.cli.gateway", "--engine", "in-process", "--store", str(store)]
    flags = ["--state", str(tmp_path), "--rest-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, *flags, "--log-format", "json"], stdout=subprocess.PIPE, stderr=output, text=True
        )
    try:
        assert process.stdout is not None
        words = json.loads(process.stdout.readline())["message"].split()
        addresses = Addresses(words[4].rstrip(","), words[7].rstrip("."))
        headers = {"x-request-id": "mine-1"}
        assert call(addresses, "POST", "/v1/models/toy/explain", FILE, headers)[0] == 200
        assert call(addresses, "POST", "/v1/models/nix/explain", FILE, headers | {"x-request-id": "mine-2"})[0] == 404
        assert call(addresses, "GET", "/v2/health/live")[0] == 200
        assert grpc_call(addresses, INFER, infer("toy"), {"x-request-id": "mine-3"})[0] == "OK"
        lines = [json.loads(each) for each in log.read_text().splitlines()]
        (url,) = [each["message"].split()[-1] for each in lines if "metrics are served" in each["message"]]
        assert Metrics(url).value("ouzel_gateway_rows_total", model="toy") == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    lines = [json.loads(each) for each in log.read_text().splitlines()]
    calls = [each for each in lines if each["logger"] == "ouzel.gateway.calls"]
    explain = "POST /v1/models/{model}/explain"
    assert [(each["request_id"], each["protocol"], each["method"], each["code"]) for each in calls] == [
        ("mine-1", "rest", explain, "OK"),
        ("mine-2", "rest", explain, "NOT_FOUND"),
        ("mine-3", "grpc", "ModelInfer", "OK"),
    ]
    assert all(each["ms"] > 0 and each["tenant"] == "local" for each in calls)
    assert lines[-1]["message"].startswith("stopping")
