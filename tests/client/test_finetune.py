"""Fine-tuning jobs through both twins, against the fake server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import ouzel_client as oc
from ouzel_client._display import jobs
from ouzel_client.testing import FakeServer

DATASET = "0123456789abcdef" * 4


Steps = Callable[..., Any]


def finetune(**options: Any) -> Any:
    return lambda client: client.jobs.finetune("m", DATASET, name="pets", **options)


def only_spec(server: FakeServer) -> Any:
    (job,) = server.jobs._jobs.values()
    return job.message.spec


def test_result(steps: Steps) -> None:
    result = steps(finetune(), lambda job: job.result(30))
    assert isinstance(result, oc.FinetuneResult)
    assert (result.model, result.version, result.promoted, result.served) == ("pets", "1", True, True)
    assert (result.accuracy, result.interval, result.balanced_accuracy) == (0.9, (0.8, 0.95), 0.85)
    assert result.summary["digest"].startswith("sha256:")
    assert [each.name for each in result.artifacts] == list(result.pictures)
    assert result.image.size == (1, 1)
    assert str(result) == "pets version 1: 90.0 % of the held-out images are right (95 %: 80.0 to 95.0)"
    assert result._repr_html_().startswith("<p>pets version 1: ")
    assert result._repr_html_().count("<img") == len(result.pictures)


def test_notes(steps: Steps, server: FakeServer) -> None:
    """What did not go as it was asked for is said, and shown."""
    job = steps(finetune(), lambda job: job.wait(30))
    assert steps(lambda client: client.jobs.get(job.id), lambda job: job.result()).notes == ()
    said = ["The time limit of 1 s was over <before> any fine-tuning."]
    server.jobs._jobs[job.id].message.result.summary.update({"notes": said})
    result = steps(lambda client: client.jobs.get(job.id), lambda job: job.result())
    assert result.notes == tuple(said)
    assert "<p>The time limit of 1 s was over &lt;before&gt; any fine-tuning.</p>" in result._repr_html_()


@pytest.mark.parametrize(
    ("promote", "better", "promoted"),
    [("never", True, False), ("if_better", True, True), ("if_better", False, False), ("always", False, True)],
)
def test_promotion(steps: Steps, server: FakeServer, promote: str, better: bool, promoted: bool) -> None:
    assert steps(finetune(promote="never"), lambda job: job.result(30)).promoted  # the first of its name
    server.jobs.better = better
    second = steps(finetune(promote=promote), lambda job: job.result(30))
    assert (second.version, second.promoted) == ("2", promoted)


def test_the_gate(steps: Steps, server: FakeServer) -> None:
    """A first version that it holds back has no callers but those who name it; a later one leaves the default."""
    server.jobs.grounded = False
    first = steps(finetune(promote="if_grounded", scenes=["cat"]), lambda job: job.result(30))
    assert (first.promoted, first.served, first.repair) == (False, False, None)
    assert (first.gate.passed, first.gate.against, first.gate.accuracy_margin) == (False, "", 0.02)
    assert [(each.name, each.passed) for each in first.gate.checks] == [("accuracy", True), ("reliance", False)]
    assert "<p>Not passed: Pretended: backgrounds turn 9 of 10 predictions.</p>" in first._repr_html_()
    (stored,) = steps(lambda client: client.models.list("pets"))
    assert (stored.is_default, stored.served, stored.gate) == (False, False, first.gate)
    with pytest.raises(oc.NotFound):
        steps(lambda client: client.jobs.repair("pets"))
    server.jobs.grounded = True
    second = steps(finetune(promote="if_grounded", accuracy_margin=0.05), lambda job: job.result(30))
    assert (second.promoted, second.gate.passed, second.gate.accuracy_margin) == (True, True, 0.05)
    server.jobs.grounded = False
    third = steps(finetune(promote="if_grounded"), lambda job: job.result(30))
    assert (third.promoted, third.served, third.gate.against) == (False, True, "pets@2")
    assert steps(finetune(), lambda job: job.result(30)).gate is None


def test_the_run_of_a_gate_again(steps: Steps, server: FakeServer) -> None:
    margins = {"accuracy_margin": 0.05, "reliance_margin": 0.3, "scenes": ["cat"]}
    steps(
        lambda client: client.jobs.finetune("m@1.0", "s3://x/y", name="pets", promote="if_grounded", **margins),
        lambda job: job.wait(30),
    )
    steps(lambda client: client.jobs.finetune(like="pets@1", reliance_margin=0.1), lambda job: job.wait(30))
    spec = last_spec(server)
    assert (spec.promote, spec.accuracy_margin, spec.reliance_margin) == (spec.IF_GROUNDED, 0.05, 0.1)
    assert list(spec.scenes) == ["cat"]
    steps(lambda client: client.jobs.finetune(like="pets@1", promote="never"))
    assert (last_spec(server).promote, last_spec(server).accuracy_margin) == (last_spec(server).NEVER, 0)


def test_repair(steps: Steps, server: FakeServer, repeatable: str) -> None:
    """Nothing need be said but whose repair: data set, seed and shares are those of the run that made it."""
    job = steps(lambda client: client.jobs.repair("pets"), lambda job: job.wait(30))
    spec = last_spec(server)
    assert (spec.base, spec.name, spec.dataset, spec.recipe) == ("pets@1", "pets", repeatable, "debias")
    assert (spec.seed, spec.promote, plain(spec)) == (SEED, spec.IF_GROUNDED, {})
    assert spec.base_digest == steps(lambda client: client.models.list("pets"))[0].digest
    result = steps(lambda client: client.jobs.get(job.id), lambda job: job.result(30))
    assert (result.model, result.version, result.promoted, result.gate.passed) == ("pets", "2", True, True)
    assert result.repair.before.interval == (0.7, 1.0)
    assert result.repair.before.worst_group < result.repair.after.worst_group
    given = {
        "layers": "all",
        "promote": "never",
        "parameters": {"epochs": 3, "held_out": 0.3},
        "seed": 4,
        "name": "dogs",
    }
    steps(lambda client: client.jobs.repair("pets@1", DATASET, **given))
    spec = last_spec(server)
    assert (spec.base, spec.name, spec.dataset, spec.recipe) == ("pets@1", "dogs", DATASET, "debias_all")
    assert (spec.seed, spec.promote, plain(spec)) == (4, spec.NEVER, {"epochs": 3, "held_out": 0.3})
    steps(lambda client: client.jobs.repair("pets@1", DATASET))
    assert last_spec(server).seed == 0  # other images: nobody knows which were held out


def test_repairs_that_cannot_be(steps: Steps, server: FakeServer, repeatable: str) -> None:
    for call, error, field in (
        (lambda client: client.jobs.repair("cats"), oc.NotFound, "model"),
        (lambda client: client.jobs.repair("m"), oc.InvalidArgument, "dataset"),
        (lambda client: client.jobs.repair("pets", layers="first"), oc.InvalidArgument, "layers"),
        (lambda client: client.jobs.repair("pets", accuracy_margin=0), oc.InvalidArgument, "accuracy_margin"),
        (lambda client: client.jobs.repair("pets", reliance_margin="much"), oc.InvalidArgument, "reliance_margin"),
        (lambda client: client.jobs.repair("pets", scenes="cat"), oc.InvalidArgument, "scenes"),
    ):
        with pytest.raises(error) as caught:
            steps(call)
        assert caught.value.field == field
    with pytest.raises(TypeError, match="unexpected keyword argument 'recipe'"):
        steps(lambda client: client.jobs.repair("pets", recipe="debias"))
    steps(lambda client: client.datasets.delete(repeatable))
    with pytest.raises(oc.NotFound, match="which is gone; give a dataset"):
        steps(lambda client: client.jobs.repair("pets"))
    assert len(server.jobs._jobs) == 1


def test_pictures_may_stay_where_they_are(steps: Steps, server: FakeServer) -> None:
    result = steps(finetune(), lambda job: job.result(30, pictures=False))
    assert (len(result.artifacts), dict(result.pictures), server.jobs.streams) == (4, {}, 0)


def test_metrics(steps: Steps) -> None:
    job = steps(finetune())
    assert (job.kind, job.state) == ("finetune", "QUEUED")
    events = steps(lambda client: client.jobs.get(job.id), lambda job: job.events())
    metrics = [event for event in events if isinstance(event, oc.MetricEvent)]
    assert [metric.step for metric in metrics] == [1, 2, 3]
    assert set(metrics[0].values) == {"loss", "accuracy", "learning_rate", "images_per_second", "seconds_left", "epoch"}
    assert [each.id for each in steps(lambda client: client.jobs.list(kind="finetune"))] == [job.id]


def test_what_is_sent(steps: Steps, server: FakeServer) -> None:
    parameters = {"epochs": 7, "learning_rate": 0.5, "flip": False}
    more = {"recipe": "fine_tune", "seed": 9.0, "max_training_seconds": 1.5, "image_size": 64}
    job = steps(finetune(parameters=parameters, promote="always", labels={"a": "b"}, max_duration=90, **more))
    spec = only_spec(server).finetune
    assert (spec.base, spec.dataset, spec.name) == ("m", DATASET, "pets")
    assert (spec.parameters["epochs"].integer, spec.parameters["learning_rate"].number) == (7, 0.5)
    assert (spec.parameters["flip"].WhichOneof("value"), spec.parameters["flip"].flag) == ("flag", False)
    assert (spec.recipe, spec.seed, spec.max_training_seconds, spec.image_size) == ("fine_tune", 9, 1.5, 64)
    assert spec.promote == spec.ALWAYS
    assert job.labels == {"a": "b"}


def test_what_is_sent_if_nothing_is_said(steps: Steps, server: FakeServer) -> None:
    steps(lambda client: client.jobs.finetune("m@1.0", SimpleNamespace(id=DATASET), name="pets"))
    spec = only_spec(server).finetune
    assert (spec.base, spec.dataset, spec.recipe, spec.promote) == ("m@1.0", DATASET, "lp_ft", spec.IF_BETTER)
    assert (spec.seed, spec.max_training_seconds, spec.image_size, len(spec.parameters)) == (0, 0, 0, 0)


@pytest.fixture
def repeatable(steps: Steps, tmp_path: Path) -> str:
    """Id of the data set that version 1 of "pets" has learnt from."""
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).write_bytes(name.encode())
    dataset = steps(lambda client: client.datasets.upload(tmp_path / "pets")).id
    asked = {"recipe": "fine_tune", "parameters": {"epochs": 7, "flip": False, "learning_rate": 0.5}, "seed": SEED}
    asked |= {"image_size": 64, "max_training_seconds": 9.5, "promote": "always"}
    steps(lambda client: client.jobs.finetune("m@1.0", dataset, name="pets", **asked), lambda job: job.wait(30))
    return dataset


SEED = 2**60 + 1  # no double is this number


def last_spec(server: FakeServer) -> Any:
    return list(server.jobs._jobs.values())[-1].message.spec.finetune


def plain(spec: Any) -> dict[str, Any]:
    return {name: getattr(each, each.WhichOneof("value")) for name, each in spec.parameters.items()}


@pytest.mark.parametrize("like", ["pets", "pets@1"])
def test_the_same_run_again(steps: Steps, server: FakeServer, repeatable: str, like: str) -> None:
    job = steps(lambda client: client.jobs.finetune(like=like), lambda job: job.wait(30))
    spec = last_spec(server)
    assert (spec.base, spec.dataset, spec.name, spec.recipe) == ("m@1.0", repeatable, "pets", "fine_tune")
    assert plain(spec) == {"epochs": 7, "flip": False, "learning_rate": 0.5}
    assert spec.parameters["flip"].WhichOneof("value") == "flag"
    assert (spec.seed, spec.image_size, spec.max_training_seconds, spec.promote) == (SEED, 64, 9.5, spec.ALWAYS)
    assert spec.base_digest == steps(lambda client: client.models.list("m"))[0].digest
    assert job.model == "pets@2"
    assert steps(lambda client: client.jobs.check_finetune(like=like))["usable"]


def test_what_is_given_beside_it_counts(steps: Steps, server: FakeServer, repeatable: str) -> None:
    given = {"name": "birds", "seed": 0, "image_size": 0, "promote": "never", "parameters": {"epochs": 3}}
    steps(lambda client: client.jobs.finetune("pets@1", DATASET, like="pets", **given))
    spec = last_spec(server)
    assert (spec.base, spec.dataset, spec.name, spec.base_digest) == ("pets@1", DATASET, "birds", "")
    assert (spec.seed, spec.image_size, spec.max_training_seconds, spec.promote) == (0, 0, 9.5, spec.NEVER)
    assert plain(spec) == {"epochs": 3, "flip": False, "learning_rate": 0.5}
    steps(lambda client: client.jobs.finetune(like="pets@1", recipe="lp_ft"))
    assert (last_spec(server).recipe, plain(last_spec(server))) == ("lp_ft", {})


def test_a_run_that_cannot_be_repeated(steps: Steps, server: FakeServer, repeatable: str) -> None:
    for like, error, said in (
        ("cats", oc.NotFound, "no model 'cats'"),
        ("pets@7", oc.NotFound, "there is pets@1"),
        ("m", oc.FailedPrecondition, "was made by no job"),
    ):
        with pytest.raises(error, match=said) as caught:
            steps(lambda client, like=like: client.jobs.finetune(like=like, name="x"))
        assert caught.value.field == "like"
    (made, _), lineage = server._store._tuned["pets"][0], dict(server._store._tuned["pets"][0][0].lineage)
    made.lineage["base_digest"] = "sha256:" + "0" * 64
    with pytest.raises(oc.FailedPrecondition, match="has other weights now"):
        steps(lambda client: client.jobs.finetune(like="pets"))
    made.lineage["base_digest"], made.lineage["base_version"], made.lineage["base"] = "", "1", "gone"
    with pytest.raises(oc.NotFound, match="the base of pets is gone"):
        steps(lambda client: client.jobs.finetune(like="pets"))
    made.lineage.update(lineage)
    del made.lineage["image_size"]
    with pytest.raises(oc.FailedPrecondition, match="does not say image_size"):
        steps(lambda client: client.jobs.finetune(like="pets"))
    jobs = len(server.jobs._jobs)
    steps(lambda client: client.datasets.delete(repeatable))
    with pytest.raises(oc.NotFound, match=f"data set {repeatable}, which is gone"):
        steps(lambda client: client.jobs.finetune(like="pets", image_size=64))
    assert len(server.jobs._jobs) == jobs
    assert steps(lambda client: client.jobs.finetune("m", DATASET, like="pets", image_size=64)).kind == "finetune"


def test_check(steps: Steps, server: FakeServer) -> None:
    report = steps(
        lambda client: client.jobs.check_finetune("m", DATASET, name="pets", parameters={"flip": True}, max_duration=60)
    )
    assert type(report) is dict
    assert (report["usable"], report["images"], report["classes"]) == (True, 16, {"cat": 8, "dog": 8})
    assert (report["problems"], report["warnings"], report["refused"], report["duplicates"]) == ([], [], [], [])
    assert not server.jobs._jobs
    with pytest.raises(oc.AlreadyExists, match="operator"):
        steps(lambda client: client.jobs.check_finetune("m", DATASET, name="m"))
    with pytest.raises(oc.NotFound, match="nothing"):
        steps(lambda client: client.jobs.check_finetune("nothing", DATASET, name="pets"))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"promote": "sometimes"}, "promote"),
        ({"promote": []}, "promote"),
        ({"parameters": {"epochs": "many"}}, "parameters.epochs"),
        ({"parameters": {"learning_rate": float("inf")}}, "parameters.learning_rate"),
        ({"seed": 2**64}, "seed"),
        ({"image_size": 0.5}, "image_size"),
        ({"max_training_seconds": "long"}, "max_training_seconds"),
        ({"dataset": None}, "dataset"),
        ({"dataset": SimpleNamespace(id=7)}, "dataset"),
        ({"base": None}, "base"),
        ({"name": 5}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"base": "\ud800"}, "base"),
        ({"parameters": {"\ud800": 1}}, "parameters"),
        ({"seed": 0.5}, "seed"),
        ({"request_id": "\ud800"}, "request_id"),
        ({"labels": {"a": "\ud800"}}, "labels"),
        ({"max_duration": 0}, "max_duration"),
    ],
)
def test_refused_before_anything_is_sent(steps: Steps, server: FakeServer, wrong: dict[str, Any], field: str) -> None:
    for method in ("finetune", "check_finetune"):
        arguments = {"base": "m", "dataset": DATASET, "name": "pets", **wrong}
        with pytest.raises(oc.InvalidArgument) as caught:
            steps(lambda client, method=method, arguments=arguments: getattr(client.jobs, method)(**arguments))
        assert caught.value.field == field
    assert not server.jobs._jobs


def test_flags_are_for_finetuning(steps: Steps) -> None:
    with pytest.raises(oc.InvalidArgument, match="not a number"):
        steps(lambda client: client.jobs.maximize("m", logit=0, parameters={"steps": True}))


def test_a_failure_is_told(steps: Steps, server: FakeServer) -> None:
    server.jobs.fail = "dataset: is no good"
    with pytest.raises(oc.JobFailed, match="dataset: is no good"):
        steps(finetune(), lambda job: job.result(30))
    with oc.Client(worker=server.target) as client:
        assert client.models.list("pets") == ()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {
                "accuracy": 0.913,
                "images_per_second": 151.7,
                "learning_rate": 1e-3,
                "loss": 0.41234,
                "seconds_left": 130,
            },
            "loss 0.4123, accuracy 91.3%, learning rate 0.001, 152 images/s, 2:10 left",
        ),
        ({"epoch": 1.25, "loss": 0.0, "seconds_left": 3725.2}, "epoch 1.2, loss 0, 1:02:05 left"),
        ({"images_per_second": 0.53, "seconds_left": 0.2}, "0.53 images/s, 0:00 left"),
        ({"mean": 1.0, "activation": 2.5}, "mean 1, activation 2.5"),
        ({"loss": float("nan"), "seconds_left": float("inf")}, "loss nan"),
    ],
)
def test_figures(values: dict[str, float], text: str) -> None:
    assert jobs.figures(values) == text


def test_shown(server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stderr for a terminal
    with jobs.presenter("job-1", True) as show:
        progress = show._bar.progress
        assert isinstance(progress.console, Console)
        update = progress.update
        monkeypatch.setattr(
            progress, "update", lambda *a, **k: (shown.append(k.get("description", "")), update(*a, **k))
        )
        with oc.Client(worker=server.target) as client:
            for event in client.jobs.finetune("m", DATASET, name="pets").events():
                show(event)
        (task,) = progress.tasks
        assert (task.percentage, task.fields["share"]) == (100, "100 %")
    assert [text for text in shown if text][
        -1
    ] == "pretending: epoch 3.0, loss 0.1, accuracy 90.0%, learning rate 0.001, 100 images/s, 0:00 left"
    assert "SUCCEEDED: pretended" in capsys.readouterr().err


def early(**options: Any) -> Any:
    return finetune(early=True, **options)


def test_early(steps: Steps, server: FakeServer) -> None:
    """The first version is told while the job goes on; the result names both."""
    events = steps(early(promote="always"), lambda job: job.events())
    told = [each for each in events if isinstance(each, oc.PublicationEvent)]
    assert [(each.model, each.version, each.number, each.promoted) for each in told] == [
        ("pets", "1", 1, True),
        ("pets", "2", 2, True),
    ]
    assert str(told[0]) == "published pets@1: it is the default"
    assert events.index(told[0]) < [type(each) for each in events].index(oc.ProgressEvent, 5)
    assert only_spec(server).finetune.early
    (job,) = server.jobs._jobs
    result = steps(lambda client: client.jobs.get(job), lambda job: job.result())
    assert (result.version, result.early.first.version, result.early.later.version) == ("2", "1", "2")
    assert (result.early.better, result.early.reason) == (True, "better: pretended")
    assert (result.early.first.accuracy, result.early.first.interval) == (0.9, (0.8, 0.95))
    assert "<p>The training is better: pretended</p>" in result._repr_html_()
    versions = steps(lambda client: client.models.list("pets"))
    assert [(each.lineage["publication"], each.lineage["job"]) for each in versions] == [(1, job), (2, job)]


def test_early_that_is_not_improved(steps: Steps, server: FakeServer) -> None:
    server.jobs.improves = False
    result = steps(early(), lambda job: job.result(30))
    assert (result.version, result.early.better) == ("1", False)
    assert (result.early.first.version, result.early.later.version, result.early.later.promoted) == ("1", "", False)
    assert steps(finetune(), lambda job: job.result(30)).early is None


def test_a_repeated_run_answers_early_again(steps: Steps, server: FakeServer) -> None:
    asked = {"name": "pets", "early": True}
    steps(lambda client: client.jobs.finetune("m", "s3://bucket/pets", **asked), lambda job: job.wait(30))
    for more, expected in (({}, True), ({"early": False}, False), ({"recipe": "fine_tune"}, False)):
        steps(lambda client, more=more: client.jobs.finetune(like="pets@1", **more))
        assert list(server.jobs._jobs.values())[-1].message.spec.finetune.early is expected
