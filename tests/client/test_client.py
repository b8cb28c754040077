"""Calls through a real channel to a fake server, by both twins."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import numpy as np
import pytest

import ouzel_client as oc
from ouzel_client import Contrast, Retry, Saliency, Top, When
from ouzel_client.testing import FakeServer

QUICK = Retry(initial=0.01, maximum=0.02)


def test_a_prediction_with_its_maps(twin, server, picture):
    e = twin(server.target)("explain", picture, saliency=["guided", "grad_cam"], top_k=2, request_id="mine")
    assert e.labels == ("cat", "dog")
    assert e.indices.tolist() == [0, 1]
    assert e.scores.dtype == e.logits.dtype == np.float32
    assert e.scores[0] > e.scores[1]
    assert e.model.name == "m"
    assert e.model.digest.startswith("sha256:")
    assert (e.view.image_width, e.view.image_height) == (30, 20)
    assert e.request_id == "mine"
    guided = e.saliency["guided"]
    assert guided.array.shape == (8, 8)
    assert guided.array.dtype == np.float32
    assert (guided.minimum, guided.maximum) == (guided.array.min(), guided.array.max())
    assert guided.rectified > 0
    assert guided.caveats
    assert str(guided.target) == "cat"
    for array in (e.scores, e.indices, e.logits, guided.array):
        assert not array.flags.writeable


def test_options_arrive_as_they_were_meant(twin, server, pixels):
    twin(server.target)(
        "explain",
        pixels,
        saliency=[
            "gradient",
            Saliency("grad_cam", target=Contrast("cat", 1), layer="blocks.6", depth=2, on=True, p=0.5),
        ],
        target="dog",
        top_k=1,
        when=When(score_below=0.9, labels=("cat",)),
        version="2.0",
    )
    [request] = server.requests
    assert (request.model, request.version, request.key) == ("m", "2.0", "tensor")
    gradient, cam = request.options["saliency"]
    assert (gradient["method"], gradient["target"]) == ("gradient", {"label": "dog"})
    assert (cam["method"], cam["size"], cam["dtype"]) == ("grad_cam", "MODEL_INPUT", "FLOAT32")
    assert cam["target"] == {"contrast": {"a": {"label": "cat"}, "b": {"index": "1"}}}
    assert cam["parameters"] == {
        "layer": {"text": "blocks.6"}, "depth": {"integer": "2"}, "on": {"flag": True}, "p": {"number": 0.5},
    }  # fmt: skip
    assert request.options["when"] == {"score_below": 0.9, "labels": ["cat"]}
    assert request.options["top_k"] == 1


def test_faithfulness_is_measured_where_it_is_asked_for(twin, server, pixels):
    asked = [Saliency("guided", faithfulness=16), Saliency("gradient")]
    e = twin(server.target)("explain", pixels, saliency=asked)
    measured, other = server.requests[-1].options["saliency"]
    assert (measured["faithfulness"], "faithfulness" in other) == (16, False)
    assert (set(e.saliency[0].measures), set(e.saliency[1].measures)) == ({"deletion", "insertion"}, set())
    for wrong in (Saliency("guided", faithfulness=1), Saliency("guided", faithfulness=4, reduction="none")):
        with pytest.raises(oc.InvalidArgument, match="faithfulness"):
            twin(server.target)("explain", pixels, saliency=wrong)


def test_several_targets_of_one_method(twin, server, pixels):
    e = twin(server.target)("explain", pixels, saliency=Saliency("guided", target=Top(2), dtype="float16"))
    assert [str(one.target) for one in e.saliency.all("guided")] == ["cat", "dog"]
    assert e.saliency[0].array.dtype == np.float16
    with pytest.raises(oc.AmbiguousKey, match="cat, dog"):
        e.saliency["guided"]


def test_a_condition_that_does_not_hold(twin, server, pixels):
    e = twin(server.target)("explain", pixels, saliency="guided", when=When(score_below=0.1))
    assert e.labels[0] == "cat"
    assert len(e.saliency) == 0
    assert "score_below" in e.skipped


def test_an_estimate(twin, server, pixels):
    estimate = twin(server.target)("estimate", pixels, saliency="guided")
    assert estimate == oc.Estimate(passes=2, response_bytes=8 * 8 * 4, response_limit_bytes=6_553_500)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize("in_answer", [False, True])
def test_what_may_pass_is_tried_again_under_the_same_id(twin, server, pixels, code, in_answer):
    server.fail_next(code, times=2, in_answer=in_answer)
    assert twin(server.target, retry=QUICK)("explain", pixels).labels[0] == "cat"
    assert len(server.requests) == 3
    assert len({request.request_id for request in server.requests}) == 1


@pytest.mark.parametrize(("code", "error"), [
    ("INVALID_ARGUMENT", oc.InvalidArgument), ("NOT_FOUND", oc.NotFound), ("INTERNAL", oc.ServerError),
    ("FAILED_PRECONDITION", oc.FailedPrecondition), ("UNIMPLEMENTED", oc.Unimplemented),
    ("DEADLINE_EXCEEDED", oc.DeadlineExceeded),
])  # fmt: skip
@pytest.mark.parametrize("in_answer", [False, True])
def test_other_errors_are_raised_at_once(twin, server, pixels, code, error, in_answer):
    server.fail_next(code, times=2, in_answer=in_answer)
    with pytest.raises(error):
        twin(server.target, retry=QUICK)("explain", pixels)
    assert len(server.requests) == 1


def test_attempts_are_counted(twin, server, pixels):
    server.fail_next("UNAVAILABLE", times=99)
    with pytest.raises(oc.Unavailable, match=r"scripted.*ouzel up"):
        twin(server.target, retry=Retry(attempts=3, initial=0.01))("explain", pixels)
    assert len(server.requests) == 3


def test_no_pause_outlasts_the_deadline(twin, server, pixels):
    server.fail_next("UNAVAILABLE", times=99)
    with pytest.raises(oc.Unavailable):
        twin(server.target, retry=Retry(attempts=50, initial=100, maximum=100))("explain", pixels, timeout=5)
    assert len(server.requests) == 1


def test_a_server_far_away_is_reached(twin, server, pixels):
    """Through a relay that takes its time, as the first packets of a TLS handshake across an ocean do."""
    host, _, port = server.target.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pump(source: socket.socket, sink: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65_536):
                    sink.sendall(data)
            sink.close()

        def relay() -> None:
            with contextlib.suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    time.sleep(0.4)
                    far = socket.create_connection((host, int(port)))
                    for ends in ((near, far), (far, near)):
                        threading.Thread(target=pump, args=ends, daemon=True).start()

        threading.Thread(target=relay, daemon=True).start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        assert twin(target, retry=Retry(attempts=1))("explain", pixels, timeout=20).labels
        listener.shutdown(socket.SHUT_RDWR)


def test_nobody_listens(twin, pixels):
    gone = FakeServer().start()
    gone.stop()
    with pytest.raises(oc.Unavailable, match="ouzel up"):
        twin(gone.target, retry=QUICK)("explain", pixels)


def test_a_server_that_comes_late_is_found(twin, pixels):
    gone = FakeServer().start()
    gone.stop()
    late = FakeServer()
    timer = threading.Timer(0.3, late.start, args=[int(gone.target.rpartition(":")[2])])
    timer.start()
    try:
        retry = Retry(attempts=100, initial=0.1, maximum=0.1)
        assert twin(gone.target, retry=retry)("explain", pixels).labels[0] == "cat"
    finally:
        timer.join()
        late.stop()


def test_a_deadline_leaves_no_thread_behind(twin, server, pixels):
    before = set(threading.enumerate())
    server.slow_down(60)
    with pytest.raises(oc.DeadlineExceeded, match="in time"):
        twin(server.target)("explain", pixels, timeout=0.2)
    assert settled(before, server) == set()


def settled(before, server):
    """Threads of the client that are left after a moment to end."""
    for _ in range(500):
        left = {
            t
            for t in set(threading.enumerate()) - before
            if not t.name.startswith(("ouzel-fake", "Thread-", "asyncio"))
        }
        if not left:
            break
        time.sleep(0.01)
    return left


def test_an_unknown_model(twin, server, pixels):
    with pytest.raises(oc.NotFound, match="nope"):
        twin(server.target)("explain", pixels, model="nope")


def test_a_missing_token(twin, pixels):
    with FakeServer(token="right") as server:
        with pytest.raises(oc.Unauthenticated, match="OUZEL_TOKEN"):
            twin(server.target, token="wrong")("explain", pixels)
        assert twin(server.target, token="right")("explain", pixels).labels[0] == "cat"


def test_an_error_of_the_answer_names_its_field(twin, server, pixels):
    with pytest.raises(oc.InvalidArgument, match="'wolf' is not a label") as caught:
        twin(server.target)("explain", pixels, saliency=["gradient", "guided"], target="wolf")
    assert caught.value.field == "saliency[0].target"


def test_too_large_a_request_is_not_sent(twin, server, pixels, picture):
    for image in (pixels, picture):
        with pytest.raises(oc.InvalidArgument, match="max_request_bytes, 100"):
            twin(server.target, max_request_bytes=100)("explain", image)
    assert server.requests == []


def test_too_large_an_answer(twin, server, pixels):
    with pytest.raises(oc.InvalidArgument, match="larger than max"):
        twin(server.target, max_response_bytes=200)("explain", pixels, saliency="guided")
    assert len(server.requests) == 1


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_a_number_of_seconds(twin, server, pixels, timeout):
    with pytest.raises(oc.InvalidArgument, match="timeout"):
        twin(server.target)("explain", pixels, timeout=timeout)


def test_a_closed_client_says_so(server, pixels):
    client = oc.Client(server.target)
    client.close()
    client.close()
    with pytest.raises(oc.ConfigurationError, match="closed"):
        client.models["m"].explain(pixels)


def test_many_come_in_order_with_no_more_in_flight_than_said(twin, server):
    server.slow_down(0.05)
    images = [np.full((9, width, 3), 0, np.uint8) for width in range(8, 28)]
    results = twin(server.target)("explain_many", images, in_flight=3, progress=False)
    assert [e.view.image_width for e in results] == list(range(8, 28))
    assert server.peak == 3


def test_many_are_read_lazily_and_called_off(twin, server, pixels):
    read = []

    def images():
        for number in range(1000):
            read.append(number)
            yield pixels

    server.slow_down(0.01)
    before = set(threading.enumerate())
    assert len(twin(server.target).first(5, images(), in_flight=2)) == 5
    assert len(read) <= 5 + 2 * 2
    assert settled(before, server) == set()


def test_leaving_does_not_wait_for_what_is_in_flight(twin, server, pixels):
    """The second image would take a minute; pytest's own timeout is the judge."""

    def images():
        yield pixels
        while not server.requests:  # the first is on its way
            time.sleep(0.01)
        server.slow_down(60)
        yield from [pixels] * 9

    server.slow_down(0.3)
    assert len(twin(server.target).first(1, images(), in_flight=2, timeout=100)) == 1


def test_many_raise_the_first_error_or_return_all(twin, server, pixels):
    images = [pixels, b"not a picture", pixels]
    caller = twin(server.target)
    results = caller("explain_many", images, on_error="return")
    assert [isinstance(result, oc.InvalidArgument) for result in results] == [False, True, False]
    with pytest.raises(oc.InvalidArgument, match="neither PNG"):
        caller("explain_many", images)


def test_many_with_a_progress_bar(twin, server, pixels, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    assert len(twin(server.target)("explain_many", [pixels] * 3, progress=True)) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert "explaining" in err


@pytest.mark.parametrize("options", [{"in_flight": 0}, {"on_error": "ignore"}, {"saliency": [3]}, {"top_k": "x"}])
def test_wrong_options_of_many_are_told_before_anything_is_read(server, options):
    with oc.Client(server.target) as client, pytest.raises(oc.InvalidArgument):
        client.models["m"].explain_many(iter([]), **options)


def test_a_cancelled_task_ends_its_call(server, pixels):
    server.slow_down(60)

    async def call():
        async with oc.AsyncClient(server.target) as client:
            task = asyncio.create_task(client.models["m"].explain(pixels))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(call())


def test_one_client_serves_many_threads(server, pixels):
    with oc.Client(server.target) as client:
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(client.models["m"].explain(pixels).labels[0]))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == ["cat"] * 8


def test_an_answer_is_recorded_where_that_is_asked_for(twin, server, picture, tmp_path):
    assert twin(server.target)("explain", picture).ledger is None
    entry = twin(server.target)("explain", picture, record=True, request_id="r").ledger
    assert (entry.kind, entry.facts) == ("explanation", {"request_id": "r"})
    assert [path.name for path in entry.save(tmp_path / "new")] == ["entry.json", "entry.salt", "entry.tlog-proof"]
