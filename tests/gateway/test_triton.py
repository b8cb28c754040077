"""Configuration and statistics of models, as Triton's clients ask for them, read by Triton's field numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from ouzel.errors import ResourceExhausted
from ouzel.gateway.access.caller import ROLES, Caller, TenantLimits
from ouzel.gateway.access.open import OpenAccess
from ouzel.gateway.engine import Row
from ouzel.gateway.options import GatewayOptions
from ouzel.gateway.server import Addresses
from ouzel_protos.v1 import explain_pb2
from support import oip_bytes as wire
from support.gateway import LABELS, SIZE, call, gateway, pictures, png
from support.still_engine import StillEngine

SERVICE = "/inference.GRPCInferenceService"
INT32, FP32, STRING = 8, 11, 13  # of Triton's DataType


def numbers(packed: bytes) -> list[int]:
    """A packed list of int64."""
    found = [value for _, value in wire.fields(b"".join(b"\x08" + part for part in varints(packed)))]
    return [int(each) - 2**64 if int(each) >= 2**63 else int(each) for each in found]


def varints(packed: bytes) -> Iterator[bytes]:
    start = 0
    for place, byte in enumerate(packed):
        if byte < 128:
            yield packed[start : place + 1]
            start = place + 1


def test_a_configuration_has_the_shapes_of_the_metadata(channel: grpc.Channel, addresses: Addresses) -> None:
    asked = wire.chunk(1, "toy") + wire.chunk(2, "2")
    (config,) = wire.of(channel.unary_unary(f"{SERVICE}/ModelConfig")(asked, timeout=20), 1)
    assert (wire.of(config, 1), dict(wire.fields(config)).get(4, 0)) == ([b"toy"], 0)
    inputs = {
        wire.of(each, 1)[0].decode(): (dict(wire.fields(each))[2], numbers(wire.of(each, 4)[0])[:4])
        for each in wire.of(config, 5)
    }
    assert inputs == {"image": (STRING, [-1]), "input": (FP32, [-1, 3, SIZE, SIZE])}
    assert all(dict(wire.fields(each))[8] for each in wire.of(config, 5))  # optional: one of them is sent
    outputs = {
        wire.of(each, 1)[0].decode(): (dict(wire.fields(each))[2], numbers(wire.of(each, 3)[0]))
        for each in wire.of(config, 6)
    }
    assert outputs["scores"] == (FP32, [-1, len(LABELS)])
    assert outputs["labels"] == (STRING, [-1, -1])
    assert outputs["classes"] == (INT32, [-1, -1])
    status, _, body = call(addresses, "GET", "/v2/models/toy/versions/2/config")
    told, metadata = json.loads(body), json.loads(call(addresses, "GET", "/v2/models/toy")[2])
    assert (status, told["name"], told["max_batch_size"]) == (200, "toy", 0)
    for ours, kind in (("input", "inputs"), ("output", "outputs")):
        assert [(each["name"], each["dims"]) for each in told[ours]] == [
            (each["name"], each["shape"]) for each in metadata[kind]
        ]
    assert {each["data_type"] for each in told["input"]} == {"TYPE_STRING", "TYPE_FP32"}
    for path in ("/v2/models/nope/config", "/v2/models/toy/versions/9/stats", "/v2/models/nope/stats"):
        assert call(addresses, "GET", path)[0] == 404


class Named(OpenAccess):
    """Everybody is the tenant of the token, who sees models that begin with its first letter."""

    def identify(self, authorization: str | None, certificate: object) -> Caller:
        name = (authorization or "Bearer m").split(" ")[1]
        return Caller(name, name, frozenset(ROLES), (f"{name[0]}*",), TenantLimits())


class Counting(StillEngine):
    """Answers with times of its own; a model that is called `mfull` has no room."""

    async def predict(self, model: str, version: str, rows: Any, deadline: float) -> list[explain_pb2.Explanation]:
        if model == "mfull":
            raise ResourceExhausted("no room")
        answers = await super().predict(model, version, rows, deadline)
        for number, (each, row) in enumerate(zip(answers, rows, strict=True)):
            assert isinstance(row, Row)
            times = {"decode_ms": 1, "preprocess_ms": 2, "compute_ms": 3 + number, "copy_ms": 0.5, "encode_ms": 4}
            each.timing.MergeFrom(explain_pb2.Timing(**times, total_ms=10.5 + number, batch_size=4))
            if row.image == b"bad":
                each.error.MergeFrom(explain_pb2.Error(code=3, message="bad"))
        return answers


def stats(addresses: Addresses, path: str = "/v2/models/stats", tenant: str = "m") -> dict[str, Any]:
    status, _, body = call(addresses, "GET", path, headers={"Authorization": f"Bearer {tenant}"})
    assert status == 200, body
    return {f"{each['name']} {each['version']}": each for each in json.loads(body)["model_stats"]}


def test_what_was_answered_is_counted_for_its_tenant() -> None:
    def infer(model: str, *files: bytes) -> bytes:
        return wire.infer(model, [wire.tensor("image", "BYTES", (len(files),))], [wire.elements(*files)])

    options = GatewayOptions(rest_port=0, grpc_port=0, grace=2, access=Named())
    engine = Counting(("m", "mfull", "other"), 0.05)
    with gateway(lambda: engine, options) as addresses, grpc.insecure_channel(addresses.grpc) as channel:
        ask = channel.unary_unary(f"{SERVICE}/ModelInfer")
        for files in ((b"a", b"b"), (b"c",), (b"d",)):
            ask(infer("m", *files), timeout=20)
        for message in (infer("m", b"a", b"bad"), infer("mfull", b"a"), infer("mfull", b"a"), infer("mnone", b"a")):
            with pytest.raises(grpc.RpcError):
                ask(message, timeout=20)
        found = stats(addresses)
        assert set(found) == {"m 1", "mfull 1"}
        one, full = found["m 1"], found["mfull 1"]
        assert (one["inference_count"], one["execution_count"]) == (4, 1)  # four rows, each a quarter of a batch
        spent = one["inference_stats"]
        assert {key: value["count"] for key, value in spent.items()} == {
            "success": 3, "fail": 1, "queue": 3, "compute_input": 3, "compute_infer": 3, "compute_output": 3,
        }  # fmt: skip
        assert spent["compute_input"]["ns"] == 9_000_000
        assert spent["compute_infer"]["ns"] == 3 * 3_500_000 + 1_000_000  # of two rows the slower one
        assert spent["compute_output"]["ns"] == 12_000_000
        whole = sum(spent[key]["ns"] for key in spent if key not in ("success", "fail"))
        assert spent["success"]["ns"] == pytest.approx(whole, abs=10)
        assert one["last_inference"] > 1.5e12
        assert (full["inference_count"], full["inference_stats"]["fail"]["count"]) == (0, 2)
        assert full["last_inference"] == 0
        assert stats(addresses, "/v2/models/m/versions/1/stats") == {"m 1": one}
        other = stats(addresses, "/v2/models/m/stats", "mary")["m 1"]  # of another tenant
        assert (other["inference_count"], other["inference_stats"]["success"]["count"]) == (0, 0)
        metadata = (("authorization", "Bearer m"),)
        answer = channel.unary_unary(f"{SERVICE}/ModelStatistics")(wire.chunk(1, "m"), timeout=20, metadata=metadata)
        (message,) = wire.of(answer, 1)
        told = dict(wire.fields(message))
        assert (told[1], told[2], told[4], told[5]) == (b"m", b"1", 4, 1)
        inner = dict(wire.fields(wire.of(message, 6)[0]))
        assert dict(wire.fields(inner[1])) == {1: 3, 2: spent["success"]["ns"]}  # type: ignore[arg-type]
        assert dict(wire.fields(inner[5]))[2] == spent["compute_infer"]["ns"]  # type: ignore[arg-type]
        assert call(addresses, "GET", "/v2/models/other/stats", headers={"Authorization": "Bearer m"})[0] == 404


def test_a_real_model_counts_its_rows(addresses: Addresses, channel: grpc.Channel) -> None:
    before = stats(addresses, "/v2/models/toy/versions/2/stats")["toy 2"]
    files = [png(each) for each in pictures(3)]
    message = wire.infer("toy", [wire.tensor("image", "BYTES", (3,))], [wire.elements(*files)], version="2")
    channel.unary_unary(f"{SERVICE}/ModelInfer")(message, timeout=60)
    after = stats(addresses, "/v2/models/toy/versions/2/stats")["toy 2"]
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
