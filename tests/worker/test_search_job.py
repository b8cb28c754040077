"""Jobs that search, and jobs with several workers: refused, counted, killed, and what they leave."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune import make_recipe
from ouzel.forking.client import ForkServer
from ouzel.worker import kinds
from ouzel.worker.api import requests
from ouzel.worker.store.job import Job
from ouzel_protos.v1 import explain_pb2, tensor_pb2
from ouzel_protos.v1 import job_pb2 as pb
from support.jobs import ended, submit, until
from support.tuning import Place, value

RATES = {"learning_rate": [1e-8, 3e-3]}
FAST = {"epochs": 2, "batch_size": 8, "crop": 1.0, "flip": False}


@pytest.fixture
def place(tmp_path: Path, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    with closing(Place(tmp_path, tiny_base, forks)) as made:
        yield made


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, forks: ForkServer) -> Iterator[Place]:
    """For tests in which no job comes about."""
    with closing(Place(tmp_path_factory.mktemp("asking"), tiny_base, forks)) as made:
        yield made


def ranged(given: Any) -> pb.SearchRange:
    if isinstance(given, list):
        return pb.SearchRange(choices=pb.SearchRange.Choices(values=[value(each) for each in given]))
    low, high, *more = given
    return pb.SearchRange(interval=pb.SearchRange.Interval(low=low, high=high, log=bool(more)))


def asked(dataset: str, recipe: str = "scratch", **more: Any) -> pb.JobSpec:
    more = {"base": "base", "name": "colours", "parameters": FAST, "search": {}, **more}
    parameters = {key: value(each) for key, each in more.pop("parameters").items()}
    space = {key: ranged(each) for key, each in more.pop("search").items()}
    return pb.JobSpec(
        finetune=pb.FinetuneSpec(dataset=dataset, recipe=recipe, parameters=parameters, search=space, **more)
    )


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"trials": 3}, "trials", "search names no parameter"),
        ({"search": RATES, "trials": -1}, "trials", "-1 is not within 1..256"),
        ({"search": RATES, "trials": 257}, "trials", "257 is not within 1..256"),
        ({"search": {"lr": [1e-3, 1e-4]}}, "search.lr", "scratch knows only"),
        ({"search": {"learning_rate": (1e-2, 1e-5)}}, "search.learning_rate", "is empty"),
        ({"search": {"weight_decay": (0.0, 1e-2, "log")}}, "search.weight_decay", "begins above 0"),
        ({"search": {"patience": (1.5, 4.0)}}, "search.patience", "is not an integer"),
        ({"search": {"epochs": (1, 3)}}, "search.epochs", "is given in parameters, too"),
        ({"search": RATES, "recipe": "feature_extractor", "parameters": {}}, "search", "is not searched"),
        ({"search": RATES, "max_training_seconds": 60.0}, "max_training_seconds", "bound the job by max_duration"),
        ({"workers": -1}, "workers", "-1 is not within 1..64"),
        ({"workers": 65}, "workers", "65 is not within 1..64"),
        ({"workers": 9}, "workers", "9 are more than the 8 images of a batch"),
        ({"workers": 17, "parameters": {}}, "workers", "17 are more than the 16 images of a batch"),
        ({"workers": 5, "parameters": {}, "search": {"batch_size": [4, 8]}}, "workers", "5 are more than the 4 images"),
        ({"workers": 2, "recipe": "feature_extractor", "parameters": {}}, "workers", "trains with one"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_at_once(asking: Place, change: dict, field: str, words: str) -> None:
    spec = asked(**{"dataset": asking.upload(), **change})
    with pytest.raises(InvalidArgument) as caught:
        requests.new_job(pb.CreateJobRequest(spec=spec), asking.catalogue)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_range_of_nothing_and_a_value_that_is_no_number_are_refused(asking: Place) -> None:
    tensor = explain_pb2.Parameter(tensor=tensor_pb2.Tensor())
    for empty in (
        pb.SearchRange(),
        pb.SearchRange(choices=pb.SearchRange.Choices(values=[explain_pb2.Parameter()] * 2)),
        pb.SearchRange(choices=pb.SearchRange.Choices(values=[tensor] * 2)),
    ):
        spec = asked(asking.upload(), parameters={})
        spec.finetune.search["batch_size"].CopyFrom(empty)
        with pytest.raises(InvalidArgument, match=r"search\.batch_size"):
            requests.new_job(pb.CreateJobRequest(spec=spec), asking.catalogue)


def test_without_optuna_a_search_is_refused(asking: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ouzel.worker.kinds.searching.find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match="ouzel\\[search\\]"):
        requests.new_job(pb.CreateJobRequest(spec=asked(asking.upload(), search=RATES)), asking.catalogue)


def test_trials_and_workers_are_work(asking: Place) -> None:
    dataset = asking.upload()

    def work(**more: Any) -> pb.JobSpec:
        return kinds.pinned("finetune", asked(dataset, **more), asking.catalogue)

    alone, searched, several = work(), work(search=RATES, trials=4), work(workers=2)
    assert searched.work_units == pytest.approx(5 * alone.work_units)
    assert work(search=RATES).work_units == pytest.approx(17 * alone.work_units)
    assert several.work_units == alone.work_units
    assert len({each.scale for each in (alone, searched, several)}) == 3


def trials(place: Place, job: Job) -> list[tuple[int, int]]:
    """Of the events: the numbers of trials, and how they ended."""
    events = place.store.events("me", job.id, limit=10_000)
    return [(each.trial.number, each.trial.outcome) for each in events if each.HasField("trial")]


def test_a_killed_search_has_its_finished_trials_and_publishes_the_best_once(place: Place) -> None:
    dataset = place.upload()
    spec = asked(dataset, search=RATES, trials=4, seed=2)
    job = submit(place.store, spec)
    until(lambda: any(number == 2 and outcome for number, outcome in trials(place, job)), 120)
    _kill(place, job)
    done = ended(place.store, job, 200)
    assert done.state.name == "SUCCEEDED", done.error
    assert done.attempt == 2
    told = trials(place, done)
    assert [number for number, outcome in told if not outcome] == [1, 2, 3, 4]  # each begins once
    assert [number for number, outcome in told if outcome] == [1, 2, 3, 4]  # and ends once
    assert len(place.models.versions("colours")) == 1
    summary = dict(done.result.summary)["search"]
    assert summary["best"]["parameters"]["learning_rate"] == 3e-3
    assert (summary["trials"], summary["complete"] + summary["pruned"]) == (4, 4)
    assert len(summary["table"]) == 4
    lineage = models.load(place.models.find("colours")).card["lineage"]
    assert lineage["parameters"]["learning_rate"] == 3e-3
    assert lineage["search"]["best"]["number"] == summary["best"]["number"]
    assert "table" not in lineage["search"]
    assert make_recipe("scratch", lineage["parameters"]).epochs == 2
    rows = list(csv.DictReader(io.StringIO(place.file(done, "trials.csv").decode())))
    assert [row["number"] for row in rows] == ["1", "2", "3", "4"]
    page = place.file(done, "report.html").decode()
    assert "The search for parameters" in page
    assert json.loads(place.file(done, "report.json"))["search"]["table"] == summary["table"]
    _as_if_given(place, dataset, lineage)


def _as_if_given(place: Place, dataset: str, lineage: dict[str, Any]) -> None:
    """The weights are those of a job that was given the values that were found."""
    given = place.run(asked(dataset, name="given", parameters=lineage["parameters"], seed=2))
    assert models.load(place.models.find("colours")).digest == given.result.summary["digest"]


def test_a_job_of_two_workers_whose_second_is_killed_goes_on(
    tmp_path: Path, tiny_base: Path, forks: ForkServer
) -> None:
    with closing(Place(tmp_path, tiny_base, forks, slots=2)) as place:
        job = submit(place.store, asked(place.upload(), "fine_tune", parameters=FAST | {"epochs": 3}, workers=2))
        until(lambda: _other_rank(place, job) is not None, 120)
        other = _other_rank(place, job)
        assert other is not None
        until(lambda: place.store.get("me", job.id).progress.phase == "training", 120)
        os.kill(other.pid, signal.SIGKILL)
        done = ended(place.store, job, 200)
        assert done.state.name == "SUCCEEDED", done.error
        assert done.attempt == 2
        reasons = [each.state_change.reason for each in place.store.events("me", job.id, limit=10_000)]
        assert any("worker 1 of the training was ended by signal 9" in each for each in reasons)
        assert [each.version for each in place.models.versions("colours")] == ["1"]
        assert models.load(place.models.find("colours")).card["lineage"]["workers"] == 2
        used = place.store.today_of("me").seconds
        ran = place.store.get("me", job.id).ran
        assert used == pytest.approx(2 * ran)
        until(lambda: not other.is_running() and _other_rank(place, job) is None, 20)


def test_trials_beside_each_other_survive_the_death_of_a_worker_and_of_the_job(
    tmp_path: Path, tiny_base: Path, forks: ForkServer
) -> None:
    with closing(Place(tmp_path, tiny_base, forks, slots=2)) as place:
        job = submit(place.store, asked(place.upload(), search=RATES, trials=6, seed=2, workers=2))
        until(lambda: any(outcome for _, outcome in trials(place, job)), 120)
        first = _process(place, job)
        assert first is not None
        workers = first.children()
        assert len(workers) == 2
        workers[1].kill()
        until(lambda: place.store.get("me", job.id).attempt == 2, 120)
        kept = {number for number, outcome in trials(place, job) if outcome}
        until(lambda: len([each for each in trials(place, job) if each[1]]) > len(kept), 120)
        second = _process(place, job)
        assert second is not None
        workers += second.children()
        os.killpg(second.pid, signal.SIGKILL)
        done = ended(place.store, job, 300)
        assert done.state.name == "SUCCEEDED", done.error
        assert done.attempt == 3
        reasons = [each.state_change.reason for each in place.store.events("me", job.id, limit=10_000)]
        assert any("worker 2 of the search was ended by signal 9" in each for each in reasons)
        told = trials(place, done)
        assert sorted(number for number, outcome in told if not outcome) == list(range(1, 7))  # each begins once
        assert sorted(number for number, outcome in told if outcome) == list(range(1, 7))  # and ends once
        summary = dict(done.result.summary)["search"]
        assert [each["number"] for each in summary["table"]] == list(range(1, 7))
        assert summary["best"]["parameters"]["learning_rate"] == 3e-3
        assert [each.version for each in place.models.versions("colours")] == ["1"]
        assert models.load(place.models.find("colours")).card["lineage"]["workers"] == 2
        until(lambda: not any(each.is_running() for each in workers), 20)


def _process(place: Place, job: Job) -> psutil.Process | None:
    for each in place.store.leases():
        if each.lease.job == job.id and each.handle:
            return psutil.Process(int(each.handle.split("/")[1]))
    return None


def _other_rank(place: Place, job: Job) -> psutil.Process | None:
    process = _process(place, job)
    return None if process is None else next(iter(process.children()), None)


def _kill(place: Place, job: Job) -> None:
    process = _process(place, job)
    assert process is not None
    os.killpg(process.pid, signal.SIGKILL)
