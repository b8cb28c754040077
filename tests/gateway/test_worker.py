"""The worker behind the front door: the client unchanged, tenants, and JSON over REST."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from PIL import Image

from ouzel.errors import Unauthenticated
from ouzel.gateway.access.caller import ROLES, Caller, TenantLimits
from ouzel.gateway.engines.in_process import InProcessEngine
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses, serving
from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace
from ouzel_client import Client, NotFound, PermissionDenied, Unavailable
from ouzel_client import Unauthenticated as ClientUnauthenticated
from ouzel_client.testing import FakeServer
from ouzel_protos.oip import inference_pb2 as oip
from ouzel_protos.v1 import dataset_pb2, job_pb2, model_pb2
from support.gateway import call, gateway, pictures
from support.still_engine import StillEngine


@dataclass
class Named:
    """Access by the name of a tenant as the token; `ann` sees models that begin with "t" only."""

    admitted: list[tuple[str, str]] = field(default_factory=list)

    def identify(self, authorization: str | None, _certificate: object) -> Caller:
        name = (authorization or "").removeprefix("Bearer ")
        if name == "dan":  # of the tenant ann, and sees nothing that is there
            return Caller("ann", name, frozenset(ROLES), ("b*",), TenantLimits())
        if name not in ("ann", "bob", "cid"):
            raise Unauthenticated("who is that?")
        roles = frozenset(ROLES) if name != "cid" else frozenset({"explain"})
        return Caller(name, name, roles, ("t*",) if name == "ann" else ("*",), TenantLimits())

    def behalf(self, caller: Caller, tenant: str) -> Caller:
        caller.need("admin")
        return replace(caller, tenant=tenant)

    def admit(self, caller: Caller, role: str, model: str | None = None) -> AbstractContextManager[None]:
        caller.need(role, model)
        self.admitted.append((caller.tenant, role))
        return nullcontext()


@contextmanager
def before(store: Path, worker: WorkerOptions, access: Any = None) -> Iterator[Addresses]:
    options = GatewayOptions(rest_port=0, grpc_port=0, grace=3, worker=worker, access=access)
    with gateway(lambda: InProcessEngine(store), options) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def fake(store: Path) -> Iterator[tuple[FakeServer, Addresses]]:
    with (
        FakeServer({"m": ("cat", "dog")}) as server,
        before(store, WorkerOptions(lambda: WorkerPlace(server.target, Path(os.devnull)))) as addresses,
    ):
        yield server, addresses


def test_jobs_and_their_streams(fake: tuple[FakeServer, Addresses], tmp_path: Path) -> None:
    _, addresses = fake
    with Client(addresses.grpc, worker=addresses.grpc) as client:
        job = client.jobs.maximize("m", logit="cat")
        assert len(list(job.events())) > 1
        assert job.result().images
        assert client.jobs.get(job.id).state == "SUCCEEDED"
        assert job.id in [each.id for each in client.jobs.list()]
        with pytest.raises(NotFound):
            client.jobs.get("nope")
        folder = tmp_path / "set"
        for name in ("a", "b"):
            (folder / name).mkdir(parents=True)
            for number, picture in enumerate(pictures(3)):
                Image.fromarray(picture).save(folder / name / f"{number}.png")
        dataset = client.datasets.upload(folder)
        assert client.datasets.get(dataset.id).id == dataset.id
        assert client.models.list()


def test_conversations(fake: tuple[FakeServer, Addresses]) -> None:
    _, addresses = fake
    with Client(addresses.grpc, worker=addresses.grpc) as client:
        mask = np.zeros((80, 72), np.uint8)
        mask[20:50, 20:50] = 255

        def predictor(shots: np.ndarray) -> np.ndarray:
            return np.tile([0.8, 0.2], (len(shots), 1))

        audit = client.audit(pictures(1)[0], claimed="cat", mask=mask, predict=predictor, labels=("cat", "dog"))
        assert audit.verdict


def ndjson(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def test_json_over_rest(fake: tuple[FakeServer, Addresses]) -> None:
    _, addresses = fake
    status, headers, body = call(addresses, "POST", "/v1/ModelService/ListModels", b"{}")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["models"][0]["name"] == "m"
    request = {"spec": {"maximize": {"model": "m"}}, "request_id": "r-1"}
    status, _, body = call(addresses, "POST", "/v1/JobService/CreateJob", json.dumps(request).encode())
    assert status == 200, body
    job = json.loads(body)
    status, headers, body = call(addresses, "POST", "/v1/JobService/WatchJob", json.dumps({"id": job["id"]}).encode())
    assert (status, headers["content-type"]) == (200, "application/x-ndjson")
    assert len(ndjson(body)) > 1
    assert ndjson(body)[-1]["state_change"]["state"] == "SUCCEEDED"
    for path, content, expected, words in (
        ("/v1/JobService/GetJob", b'{"id": "nope"}', 404, "nope"),
        ("/v1/JobService/WatchJob", b'{"id": "nope"}', 404, "nope"),
        ("/v1/JobService/GetJob", b"{", 400, "not valid JSON"),
        ("/v1/JobService/GetJob", b"[]", 400, "not a JSON object"),
        ("/v1/JobService/GetJob", b'{"identity": 1}', 400, "GetJobRequest"),
        ("/v1/JobService/Nope", b"{}", 404, "no method"),
        ("/v1/NopeService/GetJob", b"{}", 404, "no method"),
        ("/v1/AuditService/AuditReported", b"{}", 400, "'start'"),
    ):
        status, headers, body = call(addresses, "POST", path, content)
        assert (status, headers["content-type"]) == (expected, "application/problem+json"), (path, body)
        assert words in json.loads(body)["detail"]


def test_the_document_names_every_method(fake: tuple[FakeServer, Addresses]) -> None:
    status, _, body = call(fake[1], "GET", "/openapi.json")
    assert status == 200
    document = json.loads(body)
    assert document["openapi"] == "3.1.0"
    services = [*job_pb2.DESCRIPTOR.services_by_name.values(), *model_pb2.DESCRIPTOR.services_by_name.values()]
    for service in services:
        for method in service.methods:
            assert f"/v1/{service.name}/{method.name}" in document["paths"]
    schemas = document["components"]["schemas"]
    assert set(schemas["ouzel.v1.Job"]["properties"]) == {each.name for each in job_pb2.Job.DESCRIPTOR.fields}

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["$ref"]] if "$ref" in value else []
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    assert {name.removeprefix("#/components/schemas/") for name in references(document)} <= set(schemas)


def test_no_worker_is_said_at_once(store: Path) -> None:
    with before(store, WorkerOptions(lambda: None)) as addresses:
        with (
            Client(addresses.grpc, worker=addresses.grpc, timeout=5) as client,
            pytest.raises(Unavailable, match="not running"),
        ):
            list(client.jobs.list())
        assert call(addresses, "POST", "/v1/JobService/ListJobs", b"{}")[0] == 503
    with before(store, WorkerOptions(lambda: WorkerPlace("127.0.0.1:1", Path(os.devnull)))) as addresses:
        status, headers, body = call(addresses, "POST", "/v1/JobService/ListJobs", b"{}")
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"127.0.0.1" not in body


def _check_behalf(addresses: Addresses, dataset: str) -> None:
    """An administrator acts for the tenant of a header, in both protocols; nobody else does."""
    path, asked = "/v1/DatasetService/GetDataset", json.dumps({"id": dataset}).encode()
    behalf: dict[str, str] = {"X-Ouzel-Tenant": "ann"}
    for name, more, expected in (("bob", {}, 404), ("bob", behalf, 200), ("cid", behalf, 403)):
        named = {"Authorization": f"Bearer {name}", **more}
        assert call(addresses, "POST", path, asked, named)[0] == expected
    request = dataset_pb2.GetDatasetRequest(id=dataset).SerializeToString()
    with grpc.insecure_channel(addresses.grpc) as channel:
        ask = channel.unary_unary("/ouzel.v1.DatasetService/GetDataset")
        metadata = (("authorization", "Bearer bob"), ("x-ouzel-tenant", "ann"))
        assert dataset_pb2.Dataset.FromString(ask(request, metadata=metadata)).id == dataset
        with pytest.raises(grpc.RpcError) as caught:
            ask(request, metadata=(*metadata, ("x-ouzel-tenant", "bob")))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_callers_come_as_their_tenants(store: Path, worker: WorkerOptions, tmp_path: Path) -> None:
    access = Named()
    with before(store, worker, access) as addresses:
        with (
            Client(addresses.grpc, token="ann", worker=addresses.grpc, worker_token="ann") as ann,
            Client(addresses.grpc, token="bob", worker=addresses.grpc, worker_token="bob") as bob,
            Client(addresses.grpc, worker=addresses.grpc, worker_token="cid") as cid,
            Client(addresses.grpc, worker=addresses.grpc, worker_token="eve") as eve,
        ):
            with pytest.raises(ClientUnauthenticated):
                list(eve.jobs.list())
            with pytest.raises(PermissionDenied, match="jobs"):
                list(cid.jobs.list())
            for name in ("a", "b"):
                (tmp_path / name).mkdir()
                for number, picture in enumerate(pictures(2)):
                    Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
            dataset = ann.datasets.upload(tmp_path)
            assert [each.id for each in ann.datasets.list()] == [dataset.id]
            assert list(bob.datasets.list()) == []
            with pytest.raises(NotFound):
                bob.datasets.get(dataset.id)
            assert ("ann", "jobs") in access.admitted
            with pytest.raises(NotFound, match="no model 'secret'"):
                ann.jobs.maximize("secret", logit="goat")
            with pytest.raises(NotFound, match="no model 'secret'"):
                ann.models.describe("secret")
            with pytest.raises(NotFound, match="there is toy"):  # the worker's own words
                bob.models.describe("secret")
        _check_behalf(addresses, dataset.id)
        request = model_pb2.ListModelsRequest().SerializeToString()
        with grpc.insecure_channel(addresses.grpc) as channel:
            ask = channel.unary_unary("/ouzel.v1.ModelService/ListModels")
            for name, bearer in (("", None), ("eve", "eve")):
                with pytest.raises(grpc.RpcError) as caught:
                    ask(request, metadata=(("authorization", f"Bearer {bearer}"),) if name else ())
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_errors_name_no_models_that_the_caller_may_not_see(store: Path, worker: WorkerOptions) -> None:
    targets = [{"logit": {"index": 0}}]
    asked: list[tuple[str, Any]] = [
        ("ModelService/GetModel", {"name": "birdq"}),
        ("ModelService/DeleteModel", {"name": "birdq", "version": "1"}),
        ("ModelService/PromoteModel", {"name": "birdq", "version": "1"}),
        ("JobService/CreateJob", {"spec": {"maximize": {"model": "birdq", "targets": targets}}}),
        ("JobService/CreateJob", {"spec": {"search_activations": {"model": "birdq", "targets": targets}}}),
        ("JobService/CreateJob", {"spec": {"finetune": {"base": "birdq", "name": "birdx", "dataset": "0" * 64}}}),
    ]
    with before(store, worker, Named()) as addresses:
        for name, named in (("dan", False), ("bob", True)):
            for path, body in asked:
                headers = {"Authorization": f"Bearer {name}"}
                _, _, answer = call(addresses, "POST", f"/v1/{path}", json.dumps(body).encode(), headers)
                problem = json.loads(answer)
                assert problem["status"] == 404, problem
                assert "'birdq" in problem["detail"], problem
                assert ("there is toy" in problem["detail"]) is named, (path, problem)


def test_a_tuned_model_is_its_tenants_at_both_ports(store: Path, worker: WorkerOptions) -> None:
    """toy@2 was tuned by `local`: others see it nowhere, and hear what they hear of a version that there is not."""
    with before(store, worker, Named()) as addresses:
        headers = {"Authorization": "Bearer bob"}

        def get(path: str, method: str = "GET", body: bytes = b"") -> tuple[int, Any]:
            status, _, answer = call(addresses, method, path, body, headers)
            return status, json.loads(answer)

        assert [each["version"] for each in get("/v2/repository/index", "POST")[1]] == ["1"]
        assert [each["version"] for each in get("/v1/ModelService/ListModels", "POST", b"{}")[1]["models"]] == ["1"]
        assert get("/v2/models/toy")[1]["versions"] == ["1"]
        told = [get(f"/v2/models/toy/versions/{version}{end}") for version in (2, 9) for end in ("", "/stats")]
        told += [get(f"/v2/models/toy/versions/{version}/infer", "POST", b'{"inputs": []}') for version in (2, 9)]
        told += [get(f"/v1/models/toy/versions/{version}/explain", "POST", b"x") for version in (2, 9)]
        assert {status for status, _ in told} == {404}
        said = [str(answer).replace("9", "2") for _, answer in told]
        assert said[::2] == said[1::2] or (said[0], said[1]) == (said[2], said[3])
        assert "there are 1" in said[0]
        assert "1, 2" not in str(told)
        with grpc.insecure_channel(addresses.grpc) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/RepositoryIndex")
            index = oip.RepositoryIndexResponse.FromString(ask(b"", metadata=(("authorization", "Bearer bob"),)))
        assert [(each.name, each.version) for each in index.models] == [("toy", "1")]
    options = GatewayOptions(rest_port=0, grpc_port=0, grace=3, worker=worker)
    with gateway(lambda: InProcessEngine(store), options) as addresses:  # everybody is `local`
        assert len(json.loads(call(addresses, "POST", "/v2/repository/index", b"")[2])) == 2
        assert len(json.loads(call(addresses, "POST", "/v1/ModelService/ListModels", b"{}")[2])["models"]) == 2


def test_models_that_are_not_for_the_caller_are_not_listed(tmp_path: Path, store: Path) -> None:
    with FakeServer({"m": ("cat",), "t": ("dog",)}) as server:
        tokens = tmp_path / "tokens"
        tokens.write_text("ann x\nbob y\n")
        options = WorkerOptions(lambda: WorkerPlace(server.target), tokens)
        with before(store, options, Named()) as addresses:
            for name, expected in {"ann": ["t"], "bob": ["m", "t"]}.items():
                with Client(addresses.grpc, worker=addresses.grpc, worker_token=name) as client:
                    assert [each.name for each in client.models.list()] == expected


def silent() -> Iterator[bytes]:
    """Requests of a caller who sends none."""
    threading.Event().wait(15)
    yield b""


def test_silent_streams_are_denied_or_ended(store: Path, worker: WorkerOptions) -> None:
    """Whoever is not known is denied at once; whoever is, but sends nothing, a little later."""
    options = GatewayOptions(rest_port=0, grpc_port=0, grace=2, worker=worker, access=Named(), body_timeout=0.3)
    with (
        gateway(lambda: InProcessEngine(store), options) as addresses,
        grpc.insecure_channel(addresses.grpc) as channel,
    ):
        for path in (
            "/inference.GRPCInferenceService/ModelInfer",
            "/ouzel.v1.JobService/ListJobs",
            "/ouzel.v1.DatasetService/UploadFiles",
        ):
            ask = channel.stream_stream(path)
            for bearer, code in (("eve", "UNAUTHENTICATED"), ("bob", "DEADLINE_EXCEEDED")):
                with pytest.raises(grpc.RpcError) as caught:
                    list(ask(silent(), metadata=(("authorization", f"Bearer {bearer}"),), timeout=20))
                assert caught.value.code().name == code, (path, caught.value.details())
                if bearer == "bob":
                    assert "did not come within 0.3 s" in caught.value.details()


def test_a_stream_that_outlasts_the_grace_ends_with_the_reason(store: Path, tmp_path: Path) -> None:
    """Over REST with a last line of JSON, and over gRPC with a status; the body is whole."""

    async def watch(_requests: Any, _context: Any) -> AsyncIterator[bytes]:
        yield job_pb2.JobEvent(sequence=1).SerializeToString()
        await asyncio.Event().wait()

    async def run() -> tuple[list[Any], grpc.StatusCode]:
        worker = grpc.aio.server()
        handlers = {"WatchJob": grpc.unary_stream_rpc_method_handler(watch)}
        worker.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ouzel.v1.JobService", handlers),))
        port = worker.add_insecure_port("127.0.0.1:0")
        await worker.start()
        tokens = tmp_path / "tokens"
        tokens.write_text("local token-0123456789\n")
        place = WorkerOptions(lambda: WorkerPlace(f"127.0.0.1:{port}"), tokens)
        options = GatewayOptions(rest_port=0, grpc_port=0, grace=3600, worker=place)
        hurry = asyncio.Event()
        body: list[bytes] = []
        async with serving(options, StillEngine(), hurry=hurry) as addresses:
            host, _, rest = addresses.rest.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(rest))
            asked = b'{"id": "j"}'
            head = f"POST /v1/JobService/WatchJob HTTP/1.1\r\nHost: x\r\nContent-Length: {len(asked)}\r\n\r\n"
            writer.write(head.encode() + asked)
            while b'"sequence"' not in b"".join(body):
                body.append(await reader.read(4096))
            channel = grpc.aio.insecure_channel(addresses.grpc)
            events = channel.unary_stream("/ouzel.v1.JobService/WatchJob")(b"")
            await events.read()
            hurry.set()
        while part := await reader.read(4096):
            body.append(part)
        writer.close()
        code = await events.code()
        await channel.close()
        await worker.stop(0)
        headers, _, chunks = b"".join(body).partition(b"\r\n\r\n")
        assert headers.startswith(b"HTTP/1.1 200")
        assert chunks.endswith(b"0\r\n\r\n")  # whole
        return [json.loads(line) for line in chunks.split(b"\r\n") if line.startswith(b"{")], code

    lines, code = asyncio.run(run())
    assert len(lines) == 2
    assert lines[0]["sequence"] == "1"
    assert (lines[1]["error"]["code"], lines[1]["error"]["status"]) == ("UNAVAILABLE", 503)
    assert code is grpc.StatusCode.UNAVAILABLE
