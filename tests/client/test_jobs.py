"""Jobs through both twins, against the fake server."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import ouzel_client as oc
from ouzel_client import AsyncClient, Channel, ClassLogit, Client, Direction, Retry, Unit
from ouzel_client._codec.usage import quote
from ouzel_client.testing import FakeServer
from ouzel_protos.v1 import job_pb2 as pb

QUICK = Retry(initial=0.001, maximum=0.002)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


class Blocking:
    """Runs a coroutine-like function of a client in the blocking twin: calls are made as they are."""

    def __init__(self, server: FakeServer, **options: Any) -> None:
        self._server, self._options = server, options

    def open(self) -> Client:
        return Client(worker=self._server.target, retry=QUICK, **self._options)

    def __call__(self, *steps: Callable[[Any], Any]) -> Any:
        """Each step takes what the one before gave, the first the client's jobs; iterators come as lists."""
        with self.open() as client:
            value: Any = client.jobs
            for step in steps:
                value = step(value)
                value = list(value) if hasattr(value, "__next__") else value
            return value


class Asyncio(Blocking):
    def __call__(self, *steps: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            async with AsyncClient(worker=self._server.target, retry=QUICK, **self._options) as client:
                value: Any = client.jobs
                for step in steps:
                    value = step(value)
                    if hasattr(value, "__anext__"):
                        value = [each async for each in value]
                    elif asyncio.iscoroutine(value):
                        value = await value
                return value

        return asyncio.run(run())


@pytest.fixture(params=[Blocking, Asyncio])
def jobs(request: pytest.FixtureRequest, server: FakeServer) -> Blocking:
    return request.param(server)


def maximize(resource: Any) -> Any:
    return resource.maximize("m", logit="cat")


def only_spec(server: FakeServer) -> Any:
    (job,) = server.jobs._jobs.values()
    return job.message.spec


def test_result(jobs: Blocking) -> None:
    result = jobs(lambda j: j.maximize("m", [ClassLogit(0), Channel("a", 1)]), lambda job: job.result(30))
    assert [each.name for each in result.artifacts] == ["images/000.png", "images/001.png"]
    assert dict(result.summary) == {"steps": 3}
    assert [image.size for image in result.images] == [(1, 1), (1, 1)]
    assert result.image.getpixel((0, 0)) == 0
    assert result._repr_html_().count("<img") == 2


def test_events_are_typed_and_numbered(jobs: Blocking) -> None:
    events = jobs(maximize, lambda job: job.events())
    assert [event.sequence for event in events] == list(range(1, 7))
    assert [type(event) for event in events] == [oc.StateEvent] * 2 + [oc.ProgressEvent] * 3 + [oc.StateEvent]
    assert events[2].progress == oc.Progress(1, 3, "pretending")
    assert events[-1].state == "SUCCEEDED"
    assert events[0].time.tzinfo is not None
    assert list(map(str, events))[1:3] == ["RUNNING: pretended", "pretending 1 of 3"]  # a line for people


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_events_of_a_job_that_has_ended(jobs: Blocking, server: FakeServer, end: str) -> None:
    """From whichever on, they end at once; a retry makes more of them."""
    server.jobs.fail, server.jobs.hold = ("no" if end == "FAILED" else ""), end == "CANCELLED"
    done = jobs(maximize, lambda job: job.cancel() if end == "CANCELLED" else job.wait(30))
    assert done.state == end
    last = done.last_sequence
    for after in (0, last - 1, last):
        events = jobs(lambda j: j.get(done.id), lambda job, after=after: job.events(after=after))
        assert [event.sequence for event in events] == list(range(after + 1, last + 1))
    for beyond in (last + 1, -1):
        with pytest.raises(oc.InvalidArgument, match="after_sequence"):
            jobs(lambda j: j.get(done.id), lambda job, beyond=beyond: job.events(after=beyond))
    if end == "SUCCEEDED":
        with pytest.raises(oc.FailedPrecondition):
            jobs(lambda j: j.get(done.id), lambda job: job.retry())
        return
    server.jobs.fail, server.jobs.hold = "", False
    jobs(lambda j: j.get(done.id), lambda job: job.retry())
    more = jobs(lambda j: j.get(done.id), lambda job: job.events(after=last))
    assert [event.sequence for event in more] == list(range(last + 1, last + 1 + len(more)))
    assert more[-1].state == "SUCCEEDED"


def test_what_a_job_says_of_itself(jobs: Blocking, server: FakeServer) -> None:
    before = datetime.now(UTC)
    job = jobs(maximize)
    assert (job.model, job.started, job.ended, job.duration, job.priority) == ("m", None, None, None, 0)
    assert before <= job.created <= datetime.now(UTC)
    done = jobs(lambda j: j.get(job.id), lambda job: job.wait(30))
    assert job.created <= done.started <= done.ended
    assert done.duration == (done.ended - done.started).total_seconds()
    assert (done.progress.step, done.progress.steps, done.progress.phase) == (3, 3, "")
    listed = jobs(lambda j: j.list())[0]
    assert (listed.model, listed.started, listed.ended, listed.last_sequence) == ("m", done.started, done.ended, 6)


@pytest.mark.parametrize(
    ("state", "told", "settled"),
    [
        ("RUNNING", (4, 0, "searching"), (4, 0, "searching")),
        ("SUCCEEDED", (4, 0, "searching"), (4, 4, "")),
        ("SUCCEEDED", (0, 0, "publishing"), (0, 0, "")),
        ("SUCCEEDED", (3, 4, "maximizing"), (4, 4, "")),
        ("FAILED", (4, 0, "searching"), (0, 0, "searching")),
        ("CANCELLED", (3, 4, "maximizing"), (3, 4, "maximizing")),
        ("CANCELLED", (0, 0, ""), (0, 0, "")),
    ],
)
def test_the_progress_of_a_job_that_has_ended(state: str, told: Any, settled: Any) -> None:
    """Never so many steps of nobody knows how many."""
    from ouzel_protos.progress import settled as settle
    from ouzel_protos.v1 import job_pb2 as pb

    step, steps, phase = told
    result = settle(pb.Progress(step=step, steps=steps, phase=phase), pb.Job.State.Value(state))
    assert (result.step, result.steps, result.phase) == settled


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda j: j.maximize("\ud800", logit=0), "model"),
        (lambda j: j.maximize("m", logit="\ud800"), "targets[0]"),
        (lambda j: j.maximize("m", layer="\ud800", channel=0), "targets[0]"),
        (lambda j: j.maximize("m", logit=0, recipe="\ud800"), "recipe"),
        (lambda j: j.maximize("m", logit=0, parameters={"\ud800": 1}), "parameters"),
        (lambda j: j.maximize("m", logit=0, seed=1.5), "seed"),
        (lambda j: j.search_activations("m", logit=0, dataset="\ud800"), "dataset"),
        (lambda j: j.get("\ud800"), "id"),
        (lambda j: j.list(labels={"a": "\ud800"}), "labels"),
    ],
)
def test_no_text_of_unicode_is_refused_before_anything_is_sent(jobs: Blocking, call: Any, field: str) -> None:
    with pytest.raises(oc.InvalidArgument) as caught:
        jobs(call)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_whole_floats_are_whole_numbers(jobs: Blocking, server: FakeServer) -> None:
    jobs(lambda j: j.maximize("m", layer="a", channel=3.0, seed=1e9, images_per_target=2.0))
    spec = only_spec(server).maximize
    assert (spec.targets[0].channel.channel, spec.seed, spec.images_per_target) == (3, 10**9, 2)


@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_broken_stream_of_events_goes_on_where_it_was(jobs: Blocking, server: FakeServer, cut: int) -> None:
    server.jobs.cut = cut
    events = jobs(maximize, lambda job: job.events())
    assert [event.sequence for event in events] == list(range(1, 7))
    assert server.jobs.streams == 2


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_broken_download_goes_on_where_it_was(jobs: Blocking, server: FakeServer, tmp_path: Path, cut: int) -> None:
    ended = jobs(maximize, lambda job: job.wait())
    server.jobs.cut = cut
    content = jobs(lambda j: j.get(ended.id), lambda job: job.download("images/000.png", tmp_path / "new" / "x.png"))
    assert hashlib.sha256(content).hexdigest() == ended._message.result.artifacts[0].sha256
    assert (tmp_path / "new" / "x.png").read_bytes() == content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.png"]


def test_damage_is_noticed(jobs: Blocking, server: FakeServer, tmp_path: Path) -> None:
    ended = jobs(maximize, lambda job: job.wait())
    server.jobs._jobs[ended.id].files["images/000.png"] = b"something else"
    with pytest.raises(oc.DataLoss):
        jobs(lambda j: j.get(ended.id), lambda job: job.download("images/000.png", tmp_path / "x.png"))
    assert not list(tmp_path.iterdir())


def test_a_repeated_submission_is_one_job(jobs: Blocking, server: FakeServer) -> None:
    server.fail_next("UNAVAILABLE", times=2)
    jobs(maximize)
    assert len(server.jobs._jobs) == 1
    same = {jobs(lambda j: j.maximize("m", logit="cat", request_id="r")).id for _ in range(2)}
    assert len(same) == 1
    with pytest.raises(oc.AlreadyExists):
        jobs(lambda j: j.maximize("m", logit="dog", request_id="r"))


def test_an_argument_that_is_not_known_is_refused(jobs: Blocking, server: FakeServer) -> None:
    for call in (
        lambda j: j.maximize("m", logit=0, max_second=1),
        lambda j: j.search_activations("m", logit=0, seed=1),
        lambda j: j.finetune("m", "0" * 64, name="pets", learning_rate=1),
        lambda j: j.check_finetune("m", "0" * 64, name="pets", learning_rate=1),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            jobs(call)
    assert not server.jobs._jobs


def test_only_unavailable_is_tried_again(jobs: Blocking, server: FakeServer) -> None:
    server.fail_next("RESOURCE_EXHAUSTED")
    with pytest.raises(oc.Overloaded):
        jobs(maximize)
    assert not server.jobs._jobs


def test_failure(jobs: Blocking, server: FakeServer) -> None:
    server.jobs.fail = "model: is no good"
    with pytest.raises(oc.JobFailed, match="model: is no good") as caught:
        jobs(maximize, lambda job: job.result(30))
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.failure_class, error.field, error.job) == ("USER", "spec", "job-1")
    server.jobs.fail = ""
    assert jobs(lambda j: j.get("job-1"), lambda job: job.retry(), lambda job: job.wait(30)).state == "SUCCEEDED"


def test_waiting_too_long_cancels_nothing(jobs: Blocking, server: FakeServer) -> None:
    server.jobs.hold = True
    with pytest.raises(oc.WaitTimeout, match="goes on"):
        jobs(maximize, lambda job: job.result(0.1))
    assert jobs(lambda j: j.get("job-1")).state == "RUNNING"
    assert jobs(lambda j: j.get("job-1"), lambda job: job.pause()).state == "PAUSED"
    assert jobs(lambda j: j.get("job-1"), lambda job: job.resume()).state == "QUEUED"
    cancelled = jobs(lambda j: j.get("job-1"), lambda job: job.cancel())
    assert (cancelled.state, cancelled.done) == ("CANCELLED", True)
    with pytest.raises(oc.JobCancelled):
        jobs(lambda j: j.get("job-1"), lambda job: job.result())
    with pytest.raises(oc.FailedPrecondition):
        jobs(lambda j: j.get("job-1"), lambda job: job.pause())


def test_list_and_delete(jobs: Blocking) -> None:
    for number in range(3):
        jobs(lambda j, number=number: j.maximize("m", logit=0, labels={"n": str(number)}))
    jobs(lambda j: j.search_activations("m", layer="a", channel=0), lambda job: job.wait())
    assert [job.id for job in jobs(lambda j: j.list())] == ["job-4", "job-3", "job-2", "job-1"]
    assert [job.id for job in jobs(lambda j: j.list(labels={"n": "1"}))] == ["job-2"]
    assert [job.id for job in jobs(lambda j: j.list(kind="search_activations", states=["SUCCEEDED"]))] == ["job-4"]
    with pytest.raises(oc.InvalidArgument, match="QUEUED"):
        jobs(lambda j: j.list(states=["queud"]))
    jobs(lambda j: j.get("job-4"), lambda job: job.delete())
    with pytest.raises(oc.NotFound):
        jobs(lambda j: j.get("job-4"))


def test_what_is_sent(jobs: Blocking, server: FakeServer) -> None:
    nodes = [ClassLogit("cat"), Channel("a", 1), Unit("b", 2, 3), Direction("c", (0.5, 1.0))]
    options = {"priority": 5, "labels": {"a": "b"}, "max_duration": 90.5}
    more = {"recipe": "pixel", "parameters": {"steps": 7, "rate": 0.5}, "images_per_target": 2, "seed": 9}
    jobs(lambda j: j.maximize("m", nodes, layer="d", channel=4, x=1, y=0, size=(8, 9), **more, **options))
    spec = only_spec(server).maximize
    assert [node.WhichOneof("kind") for node in spec.targets] == ["logit", "channel", "unit", "direction", "unit"]
    assert (spec.targets[2].unit.x, spec.targets[2].unit.HasField("y"), spec.targets[4].unit.y) == (3, False, 0)
    assert (spec.parameters["steps"].integer, spec.parameters["rate"].number) == (7, 0.5)
    assert (spec.recipe, spec.images_per_target, spec.seed, spec.height, spec.width) == ("pixel", 2, 9, 8, 9)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({}, "targets"),
        ({"layer": "a"}, "channel"),
        ({"x": 1, "y": 1}, "x"),
        ({"targets": ["cat"]}, "targets[0]"),
        ({"targets": Channel("a", 2**40)}, "targets[0]"),
        ({"logit": 0, "parameters": {"steps": "many"}}, "parameters.steps"),
        ({"logit": 0, "parameters": {"rate": float("nan")}}, "parameters.rate"),
        ({"logit": 0, "max_duration": 0}, "max_duration"),
    ],
)
def test_refused_before_anything_is_sent(jobs: Blocking, server: FakeServer, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(oc.InvalidArgument) as caught:
        jobs(lambda j: j.maximize("m", **wrong))
    assert caught.value.field == field
    assert not server.jobs._jobs


def test_a_token_is_needed(server: FakeServer) -> None:
    server.token = "secret"
    with pytest.raises(oc.Unauthenticated):
        Blocking(server)(maximize)
    assert Blocking(server, worker_token="secret")(maximize).state == "QUEUED"


def test_without_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeServer) -> None:
    """A worker alone is enough for jobs; then it is explaining that says what is missing."""
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path))
    with pytest.raises(oc.ConfigurationError, match="no services"):
        Client()
    with Client("127.0.0.1:1") as client, pytest.raises(oc.ConfigurationError, match="no worker"):
        client.jobs.get("x")
    monkeypatch.setenv("OUZEL_WORKER", server.target)
    with Client() as client:
        assert client.jobs.maximize("m", logit=0).wait(30).state == "SUCCEEDED"
        with pytest.raises(oc.ConfigurationError, match="no services"):
            client.models["m"].explain(b"\x89PNG\r\n\x1a\n")


def test_watch_shows_how_it_goes(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert Blocking(server)(maximize, lambda job: job.watch(True)).state == "SUCCEEDED"
    assert "SUCCEEDED: pretended" in capsys.readouterr().err
    Blocking(server)(maximize, lambda job: job.watch(False))
    assert capsys.readouterr().err == ""


def test_usage_and_cost(jobs: Blocking, server: FakeServer) -> None:
    assert jobs(lambda j: j.usage()) == oc.Usage((), 0, 0, 0, ())
    done = jobs(lambda j: j.maximize("m", logit="cat", max_cost=90.5), lambda job: job.wait(30))
    assert done.quote is None
    assert only_spec(server).max_cost.ToMicroseconds() == 90_500_000
    (row,) = jobs(lambda j: j.usage(7)).days
    assert (row.day, row.kind, row.seconds, row.succeeded, row.failed) == (
        datetime.now(UTC).date(),
        "maximize",
        1.0,
        1,
        0,
    )
    for wrong in ({"days": 0}, {"days": 367}):
        with pytest.raises(oc.InvalidArgument, match="days"):
            jobs(lambda j, wrong=wrong: j.usage(**wrong))
    with pytest.raises(oc.InvalidArgument, match="max_cost"):
        jobs(lambda j: j.maximize("m", logit="cat", max_cost=0.5))


def test_a_quote_is_the_workers() -> None:
    told = pb.Job(quote=pb.Quote(low=1.0, likely=2.0, high=4.0, gpus=1, jobs=7))
    assert quote(told) == oc.Quote(1.0, 2.0, 4.0, 1, 7)
