"""Trials beside each other: what they come to, what is stopped, and what happens when a worker or the search ends."""

from __future__ import annotations

import copy
import dataclasses
import os
import signal

import psutil
import pytest
import torch

from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument
from ouzel.finetune import make_recipe
from ouzel.finetune.distributed.lead import RankLost
from ouzel.finetune.search import COMPLETE, DIVERGED, PRUNED, Trial, search
from ouzel.finetune.search.parallel import missing
from ouzel.finetune.search.processes import LocalWorkers
from ouzel.finetune.search.study import Study
from ouzel.worker.kinds import checkpoint
from ouzel_protos.search import space_of

FAST = {"epochs": 3, "batch_size": 8, "patience": 50, "crop": 1.0, "flip": False}
RATES = {"learning_rate": [1e-8, 3e-3]}


class Started:
    """Starts workers here, and knows them."""

    def __init__(self) -> None:
        self.workers: list[LocalWorkers] = []

    def __call__(self, count, joined):
        self.workers.append(LocalWorkers(count, joined))
        return self.workers[-1]

    @property
    def processes(self):
        return self.workers[0]._processes


def children() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}


def reports(trials) -> dict[float, list[dict[int, float]]]:
    """What trials came to, by their learning rate."""
    found: dict[float, list[dict[int, float]]] = {}
    for each in trials:
        found.setdefault(each.parameters["learning_rate"], []).append(dict(each.reports))
    return found


@pytest.mark.parametrize("name", ["scratch", "lp_ft"])
def test_a_trial_comes_to_the_same_whatever_runs_beside_it(tiny, colours, name):
    """Bit by bit, in each epoch that it learnt for; and bad ones are stopped, whichever was first."""
    recipe, before, told = make_recipe(name, FAST), children(), list[Trial]()
    started = Started()
    alone = search(tiny, colours, recipe, RATES, trials=4, seed=2)
    found = search(
        tiny, colours, recipe, RATES, trials=8, seed=2, workers=2, on_trial=told.append, starter=started
    )  # fmt: skip
    assert len(started.processes) == 2
    expected, compared = reports(alone.trials), 0
    for rate, given in reports(found.trials).items():
        longest = max(expected.get(rate, [{}]), key=len)
        for each in given:
            shared = each.keys() & longest.keys()
            compared += len(shared)
            assert {epoch: each[epoch] for epoch in shared} == {epoch: longest[epoch] for epoch in shared}
    assert compared > len(found.trials) / 2
    assert [each.number for each in found.trials] == list(range(1, 9))
    assert found.trials[0].parameters == alone.trials[0].parameters
    assert {each.outcome for each in found.trials} <= {COMPLETE, PRUNED}
    assert all((each.epochs == 3) == (each.outcome == COMPLETE) for each in found.trials)
    stopped = [each for each in found.trials if each.outcome == PRUNED]
    assert stopped
    assert all(each.epochs < 3 and "not in the best third" in each.reason for each in stopped)
    first = max(each.reports[1] for each in found.trials)
    assert all(each.reports[1] < first for each in stopped if each.epochs == 1)
    best = max(found.trials, key=lambda each: each.value)
    assert found.best.value == best.value
    assert found.recipe == dataclasses.replace(recipe, learning_rate=found.best.parameters["learning_rate"])
    # Each is told twice, and two were under way at a time, never more.
    under_way, most = set(), 0
    for each in told:
        (under_way.discard if each.outcome else under_way.add)(each.number)
        most = max(most, len(under_way))
    assert most == 2
    assert under_way == set()
    assert len(told) == 16
    assert children() == before


def test_a_search_that_was_interrupted_has_what_had_ended_and_begins_the_others_again(tiny, colours):
    recipe = make_recipe("scratch", FAST)
    told: list[Trial] = []

    class Stop(Exception):
        pass

    def stop() -> None:
        if sum(bool(each.outcome) for each in told) == 2:
            raise Stop

    before = children()
    with pytest.raises(Stop):
        search(tiny, colours, recipe, RATES, trials=5, seed=2, workers=2, on_trial=told.append, on_wait=stop)
    assert children() == before
    kept = [Trial.from_dict(checkpoint.read(checkpoint.dump(each.to_dict()))) for each in told]
    finished, begun = [each for each in kept if each.outcome], [each for each in kept if not each.outcome]
    again: list[Trial] = []
    found = search(
        tiny, colours, recipe, RATES, trials=5, seed=2, workers=2, finished=finished, begun=begun,
        on_trial=again.append,
    )  # fmt: skip
    assert [each.number for each in found.trials] == [1, 2, 3, 4, 5]
    for each in finished:
        assert found.trials[each.number - 1] == each
    for each in missing(begun, finished):
        assert found.trials[each.number - 1].parameters == each.parameters
    assert [each.number for each in again if not each.outcome] == [
        number for number in range(1, 6) if number not in {each.number for each in finished}
    ]


def test_a_worker_that_is_killed_ends_the_search(tiny, colours):
    started, before = Started(), children()

    def kill(event) -> None:
        if event.phase == "training":
            os.kill(started.processes[1].pid, signal.SIGKILL)

    with pytest.raises(RankLost, match="worker 2 of the search was ended by signal 9"):
        search(tiny, colours, make_recipe("scratch", FAST), RATES, trials=4, workers=2, starter=started, on_event=kill)
    assert children() == before


def test_a_worker_that_stands_still_ends_the_search(tiny, colours, monkeypatch):
    started = Started()

    def stop(event) -> None:
        if event.phase == "training":
            monkeypatch.setattr("ouzel.finetune.search.parallel.SECONDS", 8.0)  # they have begun, which takes long
            os.kill(started.processes[1].pid, signal.SIGSTOP)

    recipe = make_recipe("scratch", FAST | {"epochs": 100, "patience": 100})
    with pytest.raises(RankLost, match="worker 2 of the search has said nothing for 8 s"):
        search(tiny, colours, recipe, RATES, trials=256, workers=2, starter=started, on_event=stop)
    assert started.processes[1].returncode == -signal.SIGKILL


def test_a_worker_that_cannot_start_is_told(tiny, colours, monkeypatch):
    monkeypatch.setattr("ouzel.finetune.search.processes.MODULE", "ouzel.nothing")
    with pytest.raises(RankLost, match=r"worker \d of the search ended with status 1"):
        search(tiny, colours, make_recipe("scratch", FAST), RATES, trials=4, workers=2)


def test_workers_end_with_the_connection(tiny):
    connections = []
    workers = LocalWorkers(2, lambda number, connection: connections.append(connection))
    try:
        for each in connections:
            each.close()
        assert [each.wait(60) for each in workers._processes] == [0, 0]
    finally:
        workers.close()


def _spoilt(colours, error: Exception):
    def read() -> bytes:
        raise error

    return [dataclasses.replace(each, read=read) if number == 3 else each for number, each in enumerate(colours)]


def test_errors_of_workers_and_of_readers_are_those_of_one(tiny, colours):
    recipe = make_recipe("scratch", FAST)
    with pytest.raises(InvalidArgument, match=r"data: .*no picture") as caught:
        search(tiny, _spoilt(colours, InvalidArgument("no picture")), recipe, RATES, trials=1, workers=2)
    assert caught.value.field == "data"
    with pytest.raises(DataLoss, match="the disk is old"):
        search(tiny, _spoilt(colours, DataLoss("the disk is old")), recipe, RATES, trials=1, workers=2)
    network = copy.deepcopy(tiny.network)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    wild = dataclasses.replace(tiny, network=network, digest="sha256:wild")
    told: list[Trial] = []
    with pytest.raises(FailedPrecondition, match="the loss of all 1 trials was not finite"):
        search(wild, colours, make_recipe("fine_tune", FAST), RATES, trials=1, workers=2, on_trial=told.append)
    assert told[-1].outcome == DIVERGED
    assert "the loss became nan" in told[-1].reason


def test_a_number_of_workers_is_checked(tiny, colours):
    for wrong in (0, 65, 1.5):
        with pytest.raises(InvalidArgument, match="workers"):
            search(tiny, colours, make_recipe("scratch", FAST), RATES, trials=2, workers=wrong)


def test_what_begins_again_keeps_its_number_and_values_and_others_count_on():
    recipe = make_recipe("fine_tune", {})
    space = space_of({"learning_rate": (1e-5, 1e-1, "log"), "batch_size": [4, 8], "epochs": (1, 9)})
    first = Study(space, recipe, 3)
    asked = [first.ask() for _ in range(3)]
    ended = dataclasses.replace(asked[1], outcome=COMPLETE, reports={1: 0.5})
    study = Study(space, recipe, 3, [ended], [asked[0], asked[2]])
    assert [study.again(each) for each in (asked[0], asked[2])] == [asked[0], asked[2]]
    following = study.ask()
    assert following.number == 4
    assert following.parameters == first.ask().parameters  # of chance, which goes by the number
    study.report(asked[2], 1, 0.9)
    told = study.tell(dataclasses.replace(asked[2], outcome=PRUNED, reports={1: 0.9}))
    assert told.marks["completed_rung_0"] == 0.9
