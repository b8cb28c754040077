"""Small bodies that would be made into millions of things: refused before, and read apart from everybody else's."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouzel.errors import DeadlineExceeded, InvalidArgument, Unavailable
from ouzel.gateway.access.open import OpenAccess
from ouzel.gateway.door import Door
from ouzel.gateway.oip import json_numbers
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.reading import Reading
from ouzel.gateway.server import Addresses
from ouzel.gateway.worker.json_messages import messages
from ouzel.gateway.worker.methods import METHODS
from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace
from ouzel_client.testing import FakeServer
from ouzel_protos.torchserve import PREDICTIONS
from ouzel_protos.v1 import dataset_pb2
from support.gateway import call, gateway
from support.still_engine import StillEngine

CREATE = METHODS["/ouzel.v1.DatasetService/CreateDataset"]
INFER = "/v2/models/m/infer"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.touch(0o600)
    tokens.write_text("local token-0123456789\n")
    with FakeServer() as server:
        worker = WorkerOptions(lambda: WorkerPlace(server.target), tokens)
        with gateway(StillEngine, GatewayOptions(rest_port=0, grpc_port=0, worker=worker)) as addresses:
            yield addresses


def many(begin: str, element: str, end: str) -> bytes:
    return begin.encode() + element.encode() * 300_000 + end.encode()


BODIES = {
    "entries of a data set": ("/v1/DatasetService/CreateDataset", many('{"entries":[', "{},", "{}]}"), "several lines"),
    "states of jobs": ("/v1/JobService/ListJobs", many('{"states":[', "2,", "2]}"), "values and members"),
    "conversation": ("/v1/AuditService/AuditReported", many('{"start":{"labels":[', '"",', '""]}}'), "values and"),
    "log": ("/v1/LedgerService/ListEntries", many('{"x":[', "[],", "1]}"), "values and members"),
    "inputs": (INFER, many('{"inputs":[', "{},", "{}]}"), "10000 objects"),
    "lists": (INFER, many('{"inputs":[', "[],", "[]]}"), "lists"),
    "numbers": (INFER, many('{"inputs":[{"data":[', "1,", "1]}]}"), "300001 numbers are more than 3072"),
    "options": (
        "/v1/models/m/explain",
        many('{"image":"AA==","options":{"saliency":[', "{},", "{}]}}"),
        "more than 5000",
    ),
    "a form": (
        "/v1/models/m/explain",
        b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; '
        b'name="options"\r\n\r\n' + many('{"saliency":[', "{},", "{}]}") + b"\r\n--b--\r\n",
        "more than 5000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies_with_too_many_elements_are_refused(served: Addresses, name: str) -> None:
    path, body, words = BODIES[name]
    headers = {"Content-Encoding": "gzip"} | (
        {"Content-Type": "multipart/form-data; boundary=b"} if name == "a form" else {}
    )
    status, _, answer = call(served, "POST", path, gzip.compress(body), headers)
    assert (status, words in answer.decode()) == (400, True), answer


def test_messages_with_too_many_elements_are_refused(served: Addresses) -> None:
    with grpc.insecure_channel(served.grpc) as channel:
        for path, content in (
            ("/inference.GRPCInferenceService/ModelInfer", b"\x0a\x01m" + b"\x32\x00" * 300_000),
            ("/inference.GRPCInferenceService/ModelReady", b"\x0a\x01m" * 300_000),
            (
                PREDICTIONS,
                b"\x0a\x01m" + b"\x1a\x00" * 300_000,
            ),
            ("/ouzel.v1.LedgerService/ListEntries", b"\x08\x01" * 300_000),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(content, timeout=60)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, (path, caught.value.details())
            assert "fields" in caught.value.details()


def test_small_requests_have_small_bodies(served: Addresses) -> None:
    body = gzip.compress(b" " * 2**21 + b"{}")
    status, _, answer = call(served, "POST", "/v1/JobService/GetJob", body, {"Content-Encoding": "gzip"})
    assert (status, json.loads(answer)["code"]) == (413, "RESOURCE_EXHAUSTED")  # as gRPC says it


def test_a_manifest_in_lines_is_read_line_by_line() -> None:
    async def run() -> None:
        asked: list[int] = []

        async def aside(function: Any, *args: Any) -> Any:
            asked.append(len(args[1]))
            return function(*args)

        line = json.dumps({"entries": [{"path": "p", "label": "a"}] * 2000}).encode()
        body = b"\n \r\n" + line + b"\n\n" + line + b"\r\n\n{}" + b"\n" * 1000
        read = messages(CREATE, body, aside)
        first = dataset_pb2.CreateDatasetRequest.FromString(await anext(read))
        assert (len(first.entries), len(asked)) == (2000, 1)  # no other one before this one is taken
        rest = [dataset_pb2.CreateDatasetRequest.FromString(each) async for each in read]
        assert [len(each.entries) for each in rest] == [2000, 0]
        with pytest.raises(InvalidArgument, match="line 2: not valid JSON"):
            assert [each async for each in messages(CREATE, b"{}\n{\n", aside)]

    asyncio.run(run())


FAULTS = {
    '{"page_size": "x"}': ("page_size: 'x' is not an integer from -2147483648 to 2147483647", "page_size"),
    '{"page_size": 1000000000000}': ("page_size: 1000000000000 is not an integer from", "page_size"),
    '{"pageSize": 1.5}': ("pageSize: 1.5 is not an integer from", "pageSize"),
    '{"states": ["NO"]}': ("each one of STATE_UNSPECIFIED", "states"),
    '{"labels": 3}': ("labels: 3 is not an object", "labels"),
    '{"kind": 1}': ("kind: 1 is not a text", "kind"),
    '{"states": [null]}': ("null is no element", "states"),
    '{"pages": 1}': ("pages: is unknown; allowed are states, kind, labels, page_size", "pages"),
}


@pytest.mark.parametrize("body", FAULTS)
def test_faults_of_json_name_the_field_in_our_words(served: Addresses, body: str) -> None:
    words, field = FAULTS[body]
    status, _, answer = call(served, "POST", "/v1/JobService/ListJobs", body.encode())
    problem = json.loads(answer)
    assert (status, problem["field"]) == (400, field)
    assert words in problem["detail"]
    assert "Failed to parse" not in problem["detail"]


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.sampled_from(["integers", "floats", "mixed"]),
    st.integers(0, 2**32),
)
def test_numbers_cut_out_are_what_json_says(shape: list[int], kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=shape) * 10.0 ** random.integers(-9, 9, shape)
    listed = (np.round(values) if kind == "integers" else values).tolist()
    text = json.dumps(listed, indent=seed % 3 or None).encode()
    if kind == "integers":
        text = text.replace(b".0", b"")
    expected = np.asarray(json.loads(text))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_numbers, "_LONG", 2)
        patch.setattr(json_numbers, "_PIECE", 8)
        patch.setattr(json_numbers, "MOST", 12)
        head = b'{"id": "[1,2]", "inputs": [{"name": "x", "data": ' + text + b', "shape": 7}], "z": [[]]}'
        head += b" " * 3
        document = json_numbers.read(head, 10**6)
        data = document["inputs"][0]["data"]
        if isinstance(data, list):  # there are few
            assert len(head) < 400
            return
        found = data.array()
    assert data.count == expected.size
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    assert document["inputs"][0]["shape"] == 7
    assert document["id"] == "[1,2]"


@given(st.text(alphabet="[],1. -e", min_size=1, max_size=30))
def test_lists_that_are_none_are_refused(inside: str) -> None:
    text = f"[{inside}]".encode()
    try:
        expected: Any = np.asarray(json.loads(text))
    except (ValueError, RecursionError):
        expected = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_numbers, "_PIECE", 4)
        try:
            found = json_numbers.Numbers(text).array()
        except ValueError:
            assert expected is None or not expected.size
        else:
            assert expected is not None
            np.testing.assert_array_equal(found, expected)


def test_tensors_as_json_are_read(served: Addresses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_numbers, "MOST", 100)  # so that lists are cut out
    monkeypatch.setattr(json_numbers, "_LONG", 256)
    for rows, expected in ((64, 200), (65, 400)):
        numbers = np.full((rows, 3, 4, 4), 0.123456789)
        for data in (numbers.tolist(), numbers.ravel().tolist()):
            given = {"name": "input", "datatype": "FP32", "shape": [rows, 3, 4, 4], "data": data}
            body = json.dumps({"inputs": [given]} | ({"id": "," * 20_000} if rows == 64 else {})).encode()
            status, _, answer = call(served, "POST", INFER, body)
            assert status == expected, answer
    ragged = {"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [[1.0] * 1000, [1.0] * 1001]}
    _, _, answer = call(served, "POST", INFER, json.dumps({"inputs": [ragged]}).encode())
    assert b"2001 values do not fit the shape [1, 3]" in answer
    ragged["shape"] = [2001]
    _, _, answer = call(served, "POST", INFER, json.dumps({"inputs": [ragged]}).encode())
    assert b"their lists are not all of the same length" in answer


async def test_nobody_waits_for_what_another_tenant_has_read() -> None:
    reading, go = Reading(), threading.Event()
    begun: list[int] = []

    def slow(number: int) -> int:
        begun.append(number)
        go.wait(20)
        return number

    try:
        theirs = [asyncio.create_task(reading.run("ann", slow, number)) for number in range(8)]
        while len(begun) < 2:
            await asyncio.sleep(0.001)
        assert await asyncio.wait_for(reading.run("bob", lambda: "read"), 20) == "read"
        assert len(begun) == 2  # of a tenant, at a time
        theirs[7].cancel()  # it has not begun
        theirs[0].cancel()  # it goes on to its end, and keeps its place
        with suppress(asyncio.CancelledError):
            await theirs[0]
        await asyncio.sleep(0)
        assert len(begun) == 2
        go.set()
        assert sorted(await asyncio.gather(*theirs[1:7])) == [1, 2, 3, 4, 5, 6]
        assert 7 not in begun
        while reading._shares:
            await asyncio.sleep(0.001)
    finally:
        go.set()
        reading.close()
    with pytest.raises(Unavailable):
        await reading.run("bob", lambda: "read")


async def test_reading_ends_with_the_time_of_the_call() -> None:
    door, go = Door(StillEngine(), OpenAccess()), threading.Event()
    caller = OpenAccess().identify(None, None)
    try:
        with pytest.raises(DeadlineExceeded):
            await door.aside(caller, door.deadline(0.05), go.wait, 20)
    finally:
        go.set()
        door.reading.close()


def test_callers_who_see_some_models_are_not_looked_into_for_long(tmp_path: Path) -> None:
    """What the gateway itself looks into is bounded as at the worker."""
    from ouzel.gateway.access.caller import ROLES, Caller, TenantLimits
    from ouzel.gateway.worker.visible import check_request

    some = Caller("ann", "ann", frozenset(ROLES), ("t*",), TenantLimits())
    with pytest.raises(InvalidArgument, match="more than 100000 fields"):
        check_request(CREATE, b"\x12\x00" * 300_000, some)
