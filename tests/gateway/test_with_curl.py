"""Jobs, data sets, models, audits and the log with curl alone; messages are read without anybody's stubs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ouzel.gateway.access.caller import Caller, TenantLimits
from ouzel.gateway.access.open import OpenAccess
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace
from ouzel.ledger import open_ledger
from ouzel.ledger.settings import settings
from ouzel_client import Client
from ouzel_client.testing import FakeServer
from ouzel_protos.v1 import audit_pb2
from support import ledgers
from support.gateway import gateway, pictures, png
from support.jobs import until
from support.still_engine import StillEngine


@dataclass
class Curl:
    """The command, before one gateway."""

    addresses: Addresses
    token: str = ""

    def __call__(self, path: str, *words: str, body: bytes | None = None, method: str = "") -> tuple[int, bytes]:
        """(status, body)."""
        more = ["--data-binary", "@-"] if body is not None else []
        more += ["-X", method] if method else []
        more += ["-H", f"Authorization: Bearer {self.token}"] if self.token else []
        command = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *more, *words, self.addresses.rest + path]
        done = subprocess.run(command, input=body, capture_output=True, check=True, timeout=90)
        content, _, status = done.stdout.rpartition(b"\n")
        return int(status), content

    def ask(self, path: str, message: Any, **more: Any) -> Any:
        """The answer to a message that is answered."""
        status, content = self(f"/v1/{path}", body=json.dumps(message).encode(), **more)
        assert status == 200, content
        return json.loads(content)


def test_a_data_set_and_its_jobs(worker: WorkerOptions) -> None:
    access = Known("ann")
    options = GatewayOptions(rest_port=0, grpc_port=0, grace=2, worker=worker, access=access)
    with gateway(StillEngine, options) as addresses:
        curl = Curl(addresses)
        lines = []
        for number, picture in enumerate(pictures(4)):
            content = png(picture)
            name = ("cat", "dog")[number % 2]
            ref = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            status, answer = curl(
                "/v1/DatasetService/UploadFiles", "-H", "Content-Type: application/octet-stream", body=content
            )
            assert (status, json.loads(answer)) == (200, {"files": "1", "bytes": str(len(content))})
            lines.append({"entries": [{"path": f"{name}/{number}.png", "label": name, "file": ref}]})
        assert curl.ask("DatasetService/FindMissing", {"files": [lines[0]["entries"][0]["file"]]}) == {"sha256": []}
        manifest = "\n".join(map(json.dumps, [{"title": "pets"}, *lines])).encode()
        status, answer = curl("/v1/DatasetService/CreateDataset", body=manifest)
        dataset = json.loads(answer)
        assert (status, dataset["classes"], dataset["title"]) == (200, {"cat": "2", "dog": "2"}, "pets")
        listed = curl.ask("DatasetService/ListDatasets", {})["datasets"]
        assert dataset["id"] in [each["id"] for each in listed]
        with Client(addresses.grpc, worker=addresses.grpc) as client:
            assert client.datasets.get(dataset["id"]).classes == {"cat": 2, "dog": 2}
        # By messages, as before, too.
        chunk = {"chunk": {"offset": 0, "data": base64.b64encode(b"x").decode()}}
        file = {"file": {"sha256": hashlib.sha256(b"x").hexdigest(), "size": 1}}
        status, answer = curl(
            "/v1/DatasetService/UploadFiles", body=f"{json.dumps(file)}\n{json.dumps(chunk)}".encode()
        )
        assert (status, json.loads(answer)["files"]) == (200, "1")
        assert curl.ask("DatasetService/DeleteDataset", {"id": dataset["id"]}) == {}
        assert {each["name"] for each in curl.ask("ModelService/ListModels", {})["models"]} == {"toy"}


@pytest.fixture(scope="module")
def fake() -> Iterator[tuple[FakeServer, Addresses]]:
    with FakeServer({"m": ("cat", "dog")}) as server:
        worker = WorkerOptions(lambda: WorkerPlace(server.target, Path(os.devnull)))
        with gateway(StillEngine, GatewayOptions(rest_port=0, grpc_port=0, grace=2, worker=worker)) as addresses:
            yield server, addresses


def test_artifacts_come_as_messages_and_as_they_are(fake: tuple[FakeServer, Addresses]) -> None:
    _, addresses = fake
    curl = Curl(addresses)
    spec = {"maximize": {"model": "m", "targets": [{"logit": {"label": "cat"}}]}}
    job = curl.ask("JobService/CreateJob", {"spec": spec, "request_id": "r-7"})
    assert curl.ask("JobService/WaitJob", {"id": job["id"], "timeout": "30s"})["state"] == "SUCCEEDED"
    artifacts = curl.ask("JobService/ListArtifacts", {"id": job["id"]})["artifacts"]
    assert artifacts
    for each in artifacts:
        asked = json.dumps({"id": job["id"], "name": each["name"]}).encode()
        status, raw = curl("/v1/JobService/DownloadArtifact", "-H", "Accept: application/octet-stream", body=asked)
        assert (status, hashlib.sha256(raw).hexdigest()) == (200, each["sha256"])
        _, lines = curl("/v1/JobService/DownloadArtifact", body=asked)
        chunks = [base64.b64decode(json.loads(line)["data"]) for line in lines.splitlines()]
        assert b"".join(chunks) == raw
    status, answer = curl("/v1/JobService/DownloadArtifact", body=b'{"id": "none", "name": "x"}')
    assert (status, json.loads(answer)["code"]) == (404, "NOT_FOUND")


START = {
    "start": {
        "request": {
            "image": base64.b64encode(png(pictures(1)[0])).decode(),
            "claimed": {"label": "cat"},
            "boxes": [{"left": 10, "top": 10, "right": 40, "bottom": 40}],
        },
        "labels": ["cat", "dog"],
        "name": "mine",
    }
}
AUDIT = "AuditService/AuditReported"


def answer_to(question: dict[str, Any]) -> dict[str, Any]:
    """Scores for the pictures of a question."""
    told = question["pictures"]
    shape = [int(each) for each in told["shape"]]
    assert len(base64.b64decode(told["data"])) == np.prod(shape)
    scores = np.tile(np.float32([0.8, 0.2]), (shape[0], 1))
    tensor = {"dtype": "FLOAT32", "shape": list(scores.shape), "data": base64.b64encode(scores.tobytes()).decode()}
    return {"answer": {"number": question["number"], "scores": tensor}}


def test_an_audit_of_ones_own_predictor_in_steps(fake: tuple[FakeServer, Addresses]) -> None:
    _, addresses = fake
    curl = Curl(addresses)
    said = curl.ask(AUDIT, START)
    assert said["plan"]["patience"] > 0
    while "audit" not in said:
        assert set(said) - {"plan"} == {"conversation", "question"}
        path = f"{AUDIT}/{said['conversation']}"
        said = curl.ask(path, answer_to(said["question"]))
    assert set(said) == {"audit"}
    assert said["audit"]["verdict"] == "RESTS_ON_OBJECT"
    status, problem = curl(f"/v1/{path}", body=json.dumps({"answer": {"number": 9}}).encode())
    assert (status, json.loads(problem)["field"]) == (404, "conversation")


def test_each_step_answers_the_question_before_it() -> None:
    """A worker that asks three times, and tells what it was told; the fourth time it refuses."""
    heard: list[Any] = []

    def converse(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        heard.append(next(requests).start.name)
        yield audit_pb2.AuditReportedResponse(plan=audit_pb2.ReportedPlan(patience=30))
        for number in (1, 2, 3):
            yield audit_pb2.AuditReportedResponse(question=audit_pb2.ReportedQuestion(number=number))
            heard.append(next(requests).answer.number)
            if heard[-1] == 99:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "answer: 99 was not asked")
        yield audit_pb2.AuditReportedResponse(audit=audit_pb2.PredictionAudit(reason="heard"))

    handler = grpc.stream_stream_rpc_method_handler(
        converse, audit_pb2.AuditReportedRequest.FromString, audit_pb2.AuditReportedResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("ouzel.v1.AuditService", {"AuditReported": handler}),)
    )
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    worker = WorkerOptions(lambda: WorkerPlace(target, Path(os.devnull)))
    try:
        with gateway(StillEngine, GatewayOptions(rest_port=0, grpc_port=0, grace=2, worker=worker)) as addresses:
            curl = Curl(addresses)
            said = curl.ask(AUDIT, START)
            path = f"{AUDIT}/{said['conversation']}"
            for number in (1, 2, 3):
                assert said["question"]["number"] == number
                said = curl.ask(path, {"answer": {"number": number}})
            assert (said["audit"]["reason"], heard) == ("heard", ["mine", 1, 2, 3])
            path = f"/v1/{AUDIT}/{curl.ask(AUDIT, START)['conversation']}"
            status, problem = curl(path, body=b'{"answer": {"number": 99}}')
            assert (status, json.loads(problem)["detail"]) == (400, "answer: 99 was not asked")
            assert curl(path, body=b'{"answer": {"number": 99}}')[0] == 404
            curl.ask(AUDIT, START)  # and is left, when the gateway stops
    finally:
        server.stop(None).wait()


def test_steps_that_cannot_be(fake: tuple[FakeServer, Addresses]) -> None:
    curl = Curl(fake[1])
    for path, body, expected, words in (
        (AUDIT, {"answer": {"number": 1}}, 400, "'start'"),
        (AUDIT, {"start": {"labels": ["a"], "labelz": []}}, 400, "labelz"),
        (f"{AUDIT}/nobody", {"answer": {"number": 1}}, 404, "there is none of this name"),
        (f"{AUDIT}/nobody", START, 400, "'answer'"),
    ):
        status, problem = curl(f"/v1/{path}", body=json.dumps(body).encode())
        assert (status, words in json.loads(problem)["detail"]) == (expected, True), problem
    assert curl(f"/v1/{AUDIT}/nobody", method="DELETE")[0] == 404
    named = curl.ask(AUDIT, START)["conversation"]
    assert curl.ask(f"{AUDIT}/{named}", {}, method="DELETE") == {}
    assert curl(f"/v1/{AUDIT}/{named}", method="DELETE")[0] == 404


class Known(OpenAccess):
    """Everybody is the tenant whose name is the token, or else a given one."""

    def __init__(self, name: str = "", limits: TenantLimits | None = None) -> None:
        super().__init__()
        self._name, self._limits = name, limits or TenantLimits()

    def identify(self, authorization: str | None, certificate: object) -> Caller:
        name = self._name or (authorization or "Bearer nobody").split(" ")[1]
        roles = frozenset({"audit", "jobs"} if name != "eve" else {"explain", "jobs"})
        if name == "root":
            roles |= {"admin"}
        return Caller(name, name, roles, ("t*",) if name == "bob" else ("*",), self._limits)


def test_a_conversation_is_its_callers_and_no_caller_has_many(
    fake: tuple[FakeServer, Addresses], tmp_path: Path
) -> None:
    server, _ = fake
    tokens = tmp_path / "tokens"
    tokens.write_text("ann x\nzoe y\n")
    worker = WorkerOptions(lambda: WorkerPlace(server.target), tokens)
    access = Known(limits=TenantLimits(concurrency=2))
    options = GatewayOptions(rest_port=0, grpc_port=0, grace=2, worker=worker, access=access)
    with gateway(StillEngine, options) as addresses:
        ann, zoe = Curl(addresses, "ann"), Curl(addresses, "zoe")
        said = ann.ask(AUDIT, START)
        path = f"/v1/{AUDIT}/{said['conversation']}"
        answer = json.dumps(answer_to(said["question"])).encode()
        assert zoe(path, body=answer)[0] == 404
        ann.ask(AUDIT, START)
        status, problem = ann(f"/v1/{AUDIT}", body=json.dumps(START).encode())
        assert (status, json.loads(problem)["code"]) == (429, "RESOURCE_EXHAUSTED")
        zoe.ask(AUDIT, START)  # takes nothing from her
        assert ann(path, body=answer)[0] == 200
    # Those that are open hold the stop up for no longer than the calls under way.


def test_who_does_not_go_on_is_not_waited_for(
    fake: tuple[FakeServer, Addresses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ouzel.gateway.worker.conversations._SPARE", -1e9)  # no patience at all
    curl = Curl(fake[1])
    said = curl.ask(AUDIT, START)
    answer = json.dumps(answer_to(said["question"])).encode()
    until(lambda: curl(f"/v1/{AUDIT}/{said['conversation']}", body=answer)[0] == 404)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder of a log with 301 entries, its key)."""
    folder = tmp_path_factory.mktemp("ledger")
    ledger = open_ledger(settings(folder))
    for n in range(301):
        ledger.append("gate" if n % 100 == 7 else "audit", {"n": n}, owner="zoe" if n == 207 else "ann")
    ledger.close()
    return folder, str(ledger.key)


def _check_own(ann: Curl, zoe: Curl) -> None:
    """Who is no administrator reads what the own tenant owns."""
    page = zoe.ask("LedgerService/ListEntries", {})
    assert [each["index"] for each in page["entries"]] == ["207"]
    assert "next" not in page
    page = ann.ask("LedgerService/ListEntries", {"kind": "gate", "page_size": 1, "start": 8})
    assert ([each["index"] for each in page["entries"]], page["next"]) == (["107"], "207")
    assert ann.ask("LedgerService/ListEntries", {"kind": "gate", "start": 207})["entries"] == []
    assert ann.ask("LedgerService/GetEntry", {"index": 107})["index"] == "107"
    said = []
    for index in (207, 301):  # hers not, and nobody's
        status, problem = ann("/v1/LedgerService/GetEntry", body=json.dumps({"index": index}).encode())
        said.append((status, json.loads(problem)["detail"].replace(str(index), "N")))
    assert said[0] == said[1] == (404, "index: N is not an entry of the tenant 'ann'")


def test_the_log_is_read_and_its_proofs_hold(log: tuple[Path, str]) -> None:
    folder, key = log
    options = GatewayOptions(rest_port=0, grpc_port=0, grace=2, access=Known(), ledger=lambda: folder)
    with gateway(StillEngine, options) as addresses:
        curl = Curl(addresses, "root")
        told = curl.ask("LedgerService/GetCheckpoint", {})
        assert (told["key"], ledgers.checkpoint(told["note"], key)[0]) == (key, 301)
        entry = curl.ask("LedgerService/GetEntry", {"index": 107})
        body = base64.b64decode(entry["entry"])
        assert (json.loads(body)["facts"], entry["salt"]) == ({"n": 107}, "")
        assert ledgers.proof(entry["proof"], body, key) == 107
        with pytest.raises(AssertionError):
            ledgers.proof(entry["proof"], body + b" ", key)
        page = curl.ask("LedgerService/ListEntries", {"page_size": 2, "kind": "gate"})
        assert [each["index"] for each in page["entries"]] == ["7", "107"]
        page = curl.ask("LedgerService/ListEntries", {"start": page["next"], "page_size": 2, "kind": "gate"})
        assert [each["index"] for each in page["entries"]] == ["207"]
        assert "next" not in page
        for message, status in (({"index": 301}, 404), ({"index": -1}, 400)):
            assert curl("/v1/LedgerService/GetEntry", body=json.dumps(message).encode())[0] == status
        for message in ({"page_size": 501}, {"start": -1}, {"kind": "audits"}):
            assert curl("/v1/LedgerService/ListEntries", body=json.dumps(message).encode())[0] == 400
        assert curl("/v1/LedgerService/Forget", body=b"{}")[0] == 404
        _check_own(Curl(addresses, "ann"), Curl(addresses, "zoe"))
        some, none = Curl(addresses, "bob"), Curl(addresses, "eve")
        assert some.ask("LedgerService/GetCheckpoint", {})["key"] == key
        for each, path in ((some, "GetEntry"), (some, "ListEntries"), (none, "GetCheckpoint"), (none, "ListEntries")):
            status, problem = each(f"/v1/LedgerService/{path}", body=b"{}")
            assert (status, json.loads(problem)["code"]) == (403, "PERMISSION_DENIED")
        paths = json.loads(curl("/openapi.json")[1])["paths"]
        assert "/v1/LedgerService/GetEntry" in paths
        assert "/v1/JobService/GetJob" not in paths  # there is no worker
    with gateway(StillEngine, GatewayOptions(rest_port=0, grpc_port=0, grace=2)) as addresses:
        status, problem = Curl(addresses)("/v1/LedgerService/GetCheckpoint", body=b"{}")
        assert (status, json.loads(problem)["detail"]) == (400, "no log is kept here")
