"""A real network in the real TorchServe, over gRPC and REST."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import struct
import time
import zlib

import grpc
import numpy as np
import psutil
import pytest
from PIL import Image

from ouzel.explain import STAGES
from ouzel.ledger import VerifierKey, verify_proof
from ouzel.models import Model
from ouzel.saliency import Explainer, Saliency
from ouzel.serving import RunningServing
from ouzel.torchserve import rest
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from ouzel_protos.v1.tensor_pb2 import Tensor
from support.pictures import png

pytestmark = pytest.mark.e2e
METHODS = ("gradient", "guided", "grad_cam")


def options(*methods: str, **more: object) -> bytes:
    return json.dumps({"saliency": list(methods), **more}).encode()


def test_chelsea_is_a_cat_over_grpc(
    wire, chelsea, chelsea_png: bytes, chelsea_probability: float, lite0: Model
) -> None:
    answer = wire.grpc(image=chelsea_png, options=options(*METHODS, top_k=3))
    assert answer.scores[0].label == "tiger cat"
    assert answer.scores[0].probability == pytest.approx(chelsea_probability, rel=1e-3)
    assert len(answer.scores) == 3
    assert answer.model.weights_digest == lite0.digest
    assert (answer.model.precision, answer.model.HasField("deviation")) == ("exact", False)
    x = lite0.preprocessing(Image.fromarray(chelsea))[None]
    expected = Explainer(lite0)(x, [Saliency(method) for method in METHODS])
    for got, want in zip(answer.saliency, expected.maps, strict=True):
        # The two explainers may have settled on different memory formats: equal but for float32's ties.
        got_values, want_values = tensors.decode(got.values), want.values[0].numpy()
        assert np.linalg.norm(got_values - want_values) <= 0.02 * np.linalg.norm(want_values)
    assert answer.saliency[1].rectified == 33


def test_a_recorded_answer_holds_a_proof(wire, running: RunningServing, chelsea_png: bytes) -> None:
    """By the processes of models, which write to one log."""
    calls = [wire.future(image=chelsea_png, options=options("guided", record=True)) for _ in range(4)]
    answers = [pb.Explanation.FromString(call.result().prediction) for call in calls]
    key = VerifierKey.parse((running.key_file.parents[1] / "ledger" / "tiles" / "vkey").read_text().strip())
    for answer in answers:
        verify_proof(answer.ledger.proof, answer.ledger.entry, key)
        assert json.loads(answer.ledger.entry)["facts"]["scores"][0]["label"] == "tiger cat"
    assert sorted(answer.ledger.index for answer in answers) == [0, 1, 2, 3]
    status, _, body = wire.rest(chelsea_png, {"record": True})
    assert (status, json.loads(body)["ledger"]["index"]) == (200, "4")


def test_chelsea_is_a_cat_over_rest(wire, chelsea_png: bytes, chelsea_probability: float) -> None:
    status, media_type, body = wire.rest(chelsea_png, {"saliency": ["gradient"]})
    answer = json.loads(body)
    assert (status, media_type) == (200, "application/json")
    assert answer["scores"][0]["label"] == "tiger cat"
    assert answer["scores"][0]["probability"] == pytest.approx(chelsea_probability, rel=1e-3)
    values = answer["saliency"][0]["values"]
    array = np.frombuffer(base64.b64decode(values["data"]), "<f4").reshape(values["shape"])
    assert array.shape == (224, 224)
    same = wire.grpc(image=chelsea_png, options=options("gradient"))
    np.testing.assert_array_equal(array, tensors.decode(same.saliency[0].values))


def test_rest_gives_pictures_and_messages(wire, chelsea_png: bytes) -> None:
    status, media_type, body = wire.rest(chelsea_png, {"saliency": ["guided"]}, accept="image/png")
    assert (status, media_type) == (200, "image/png")
    assert Image.open(io.BytesIO(body)).size == (451, 300)
    status, media_type, body = wire.rest(chelsea_png, {}, accept="text/html, image/webp")
    assert (status, media_type, json.loads(body)["error"]["field"]) == (406, "application/json", "Accept")
    status, media_type, body = wire.rest(chelsea_png, {"top_k": 2}, accept="application/x-protobuf")
    assert (status, media_type) == (200, "application/x-protobuf")
    assert len(pb.Explanation.FromString(body).scores) == 2


def test_multipart_as_curl_sends_it(wire, chelsea_png: bytes) -> None:
    import urllib.request

    boundary = "ouzelboundary"
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n'
    body = (
        (part % "image").encode() + chelsea_png + b"\r\n"
        + f'--{boundary}\r\nContent-Disposition: form-data; name="options"\r\n\r\n'.encode()
        + options("guided") + f"\r\n--{boundary}--\r\n".encode()
    )  # fmt: skip
    headers = {
        "Authorization": f"Bearer {wire.running.inference_token}",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
    }
    url = f"{wire.running.rest}/predictions/efficientnet-lite0"
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=60) as answer:
        assert json.load(answer)["saliency"][0]["method"] == "guided"


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header promises more than it holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A small PNG with 50 MB of compressed text."""
    content = b"Comment\0\0" + zlib.compress(b"a" * 50_000_000)
    chunk = struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    image = png(0)
    return image[:33] + chunk + image[33:]


def encoded(kind: str, mode: str = "RGB", **more: object) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(png(0, 64, 64))).convert(mode).save(out, kind, **more)
    return out.getvalue()


BAD_IMAGES = {
    "empty": (b"", 400),
    "html": (b"<html><body>cat</body></html>", 415),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415),
    "gif": (encoded("GIF"), 415),
    "noise": (np.random.default_rng(0).bytes(4096), 415),
    "30000x30000": (huge_png(30000, 30000), 413),
    "13000x7000": (huge_png(13000, 7000), 413),
    "1x2000": (huge_png(1, 2000), 400),
    "truncated": (encoded("JPEG")[:-400], 400),
    "text bomb": (text_bomb(), 400),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_bad_images_are_refused_and_the_worker_lives(wire, name: str) -> None:
    image, expected = BAD_IMAGES[name]
    workers = wire.running.worker_pids()
    envelope = wire.grpc(image=image, options=options("gradient"))
    assert envelope.error.code == pb.Error.INVALID_ARGUMENT
    assert envelope.error.field == "image"
    assert "Traceback" not in envelope.error.message
    assert not envelope.scores
    status, _, body = wire.rest(image)
    assert status == expected
    assert json.loads(body)["error"]["code"] == "INVALID_ARGUMENT"
    assert wire.running.worker_pids() == workers


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "P", "1", "I;16", "RGBA"])
def test_other_kinds_of_pixels_are_converted(wire, mode: str) -> None:
    if mode == "I;16":
        out = io.BytesIO()
        Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).save(out, "PNG")
        image = out.getvalue()
    else:
        image = encoded("JPEG" if mode == "CMYK" else "PNG", mode)
    assert len(wire.grpc(image=image).scores) == 5


def test_a_rotated_photograph_is_turned_upright(wire, chelsea) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated clockwise by 90 degrees
    out, plain = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.rot90(chelsea)).save(out, "PNG", exif=exif)
    Image.fromarray(chelsea).save(plain, "PNG")
    assert wire.grpc(image=out.getvalue()).scores[0] == wire.grpc(image=plain.getvalue()).scores[0]


@pytest.mark.parametrize("target", [-1, 1000, 2**63, "shep"])
def test_bad_targets(wire, chelsea_png: bytes, target: object) -> None:
    wish = {"saliency": [{"method": "gradient", "target": target}]}
    envelope = wire.grpc(image=chelsea_png, options=json.dumps(wish).encode())
    assert envelope.error.code == pb.Error.INVALID_ARGUMENT
    assert envelope.error.field == "saliency[0].target"
    assert str(target) in envelope.error.message
    assert wire.rest(chelsea_png, wish)[0] == 400


def test_unknown_layer_and_model(wire, chelsea_png: bytes) -> None:
    for layer in ("blocks.99", "__class__", "../x"):
        wish = {"saliency": [{"method": "grad_cam", "layer": layer}]}
        envelope = wire.grpc(image=chelsea_png, options=json.dumps(wish).encode())
        assert envelope.error.code in (pb.Error.NOT_FOUND, pb.Error.INVALID_ARGUMENT)
        assert layer in envelope.error.message
    with pytest.raises(grpc.RpcError, match="Model not found"):
        wire.grpc(model="no-such-model", image=chelsea_png)


def test_one_bad_row_among_concurrent_ones(wire, chelsea_png: bytes) -> None:
    images = [chelsea_png, chelsea_png, b"<html>", chelsea_png]
    for _ in range(10):  # until the calls meet in one batch
        futures = [wire.future(image=image, options=options("guided")) for image in images]
        answers = [pb.Explanation.FromString(future.result().prediction) for future in futures]
        assert [answer.HasField("error") for answer in answers] == [False, False, True, False]
        assert [answer.scores[0].label for answer in answers if answer.scores] == ["tiger cat"] * 3
        if answers[0].timing.batch_size == 3:
            return
    pytest.fail("the calls never met in one batch")


def test_mixed_options_in_one_batch_do_not_mix(wire, chelsea_png: bytes) -> None:
    wishes = [("gradient",), ("guided",), ("grad_cam", "gradient"), ()]
    futures = [wire.future(image=chelsea_png, options=options(*wish)) for wish in wishes for _ in range(4)]
    answers = [pb.Explanation.FromString(future.result().prediction) for future in futures]
    methods = [tuple(m.method for m in answer.saliency) for answer in answers]
    assert methods == [wish for wish in wishes for _ in range(4)]


def test_an_oversize_answer_is_refused_and_the_worker_lives(wire, chelsea_png: bytes) -> None:
    workers = wire.running.worker_pids()
    wish = {"saliency": [{"method": "gradient", "reduction": "none", "target": {"top": 20}}]}
    status, _, body = wire.rest(chelsea_png, wish)
    assert status == 413
    assert "6553500" in json.loads(body)["error"]["message"]
    assert wire.grpc(image=chelsea_png, options=json.dumps(wish).encode()).error.code == pb.Error.INVALID_ARGUMENT
    assert wire.running.worker_pids() == workers


def test_the_estimate_is_given_without_the_work(wire, chelsea_png: bytes) -> None:
    envelope = wire.grpc(image=chelsea_png, options=options(*METHODS, estimate_only=True))
    assert envelope.estimate.passes == 3
    assert not envelope.scores
    real = wire.future(image=chelsea_png, options=options(*METHODS)).result().prediction
    assert len(real) <= envelope.estimate.response_bytes


def test_explanations_endpoint_is_refused(wire, chelsea_png: bytes) -> None:
    futures = [wire.future(image=chelsea_png) for _ in range(3)]
    status, _, body = wire.rest(chelsea_png, path="/explanations/efficientnet-lite0")
    assert status == 400
    assert "/predictions" in json.loads(body)["error"]["message"]
    assert all(pb.Explanation.FromString(future.result().prediction).scores for future in futures)


def test_text_and_json_bodies_do_not_break_the_worker(wire) -> None:
    workers = wire.running.worker_pids()
    for content_type in ("application/json", "text/plain; charset=utf-8"):
        import urllib.error
        import urllib.request

        headers = {"Authorization": f"Bearer {wire.running.inference_token}", "Content-Type": content_type}
        url = f"{wire.running.rest}/predictions/efficientnet-lite0"
        request = urllib.request.Request(url, data=b'{"broken": \xff', headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        assert refused.value.code == 400  # JSON, by its first sign, that is broken
    assert wire.running.worker_pids() == workers


def test_a_message_as_options_over_rest_multipart_and_grpc(wire, chelsea_png: bytes) -> None:
    message = pb.ExplainOptions(
        top_k=1, saliency=[pb.SaliencyRequest(method="gradient", dtype=Tensor.FLOAT16, size=pb.ORIGINAL_IMAGE)]
    )
    answer = wire.grpc(image=chelsea_png, options=message.SerializeToString())
    values = tensors.decode(answer.saliency[0].values)
    assert (values.dtype, values.shape) == (np.float16, (300, 451))


def test_a_killed_worker_is_replaced(wire, chelsea_png: bytes) -> None:
    """Last in this module: the worker's process id changes."""
    (worker,) = wire.running.worker_pids()
    futures = [wire.future(image=chelsea_png, options=options(*METHODS)) for _ in range(24)]
    futures[0].result()
    os.kill(worker, signal.SIGKILL)
    outcomes = [future.exception() for future in futures]
    assert any(outcome is not None for outcome in outcomes)
    assert all(isinstance(outcome, grpc.RpcError) for outcome in outcomes if outcome is not None)
    deadline = time.monotonic() + 90
    while True:
        try:
            assert wire.grpc(image=chelsea_png).scores[0].label == "tiger cat"
            break
        except grpc.RpcError:
            assert time.monotonic() < deadline, "no new worker"
            time.sleep(0.5)
    assert wire.running.worker_pids() != (worker,)
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


def test_metrics_tell_where_the_time_of_batches_went(wire, running: RunningServing, chelsea_png: bytes) -> None:
    def seen(name: str) -> dict[str, float]:
        status, body = rest.call("GET", f"{running.metrics}/metrics", "")
        assert status == 200
        lines = re.findall(rf"^{name}_(count|sum){{.*}} (.*)$", body.decode(), re.MULTILINE)
        return {kind: float(value) for kind, value in lines}

    names = [f"ouzel_explain_{stage}_seconds" for stage in STAGES]
    before = {name: seen(name) for name in names}
    queued = seen("QueueTime")
    spent = wire.grpc(image=chelsea_png, options=options("gradient")).timing
    deadline = time.monotonic() + 10
    while seen(names[-1]).get("count", 0) == before[names[-1]].get("count", 0) and time.monotonic() < deadline:
        time.sleep(0.05)  # the metrics follow the answer
    for stage, name in zip(STAGES, names, strict=True):
        after = seen(name)
        assert after.get("count", 0) == before[name].get("count", 0) + 1
        own = getattr(spent, f"{stage}_ms") / 1e3
        assert after.get("sum", 0.0) - before[name].get("sum", 0.0) == pytest.approx(own, abs=2e-6, rel=1e-3)
    assert seen("QueueTime").get("count", 0) > queued.get("count", 0)
