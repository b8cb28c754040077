"""Trials beside each other: what they come to, what is stopped, and what happens when a worker or the search ends."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import signal
import threading
import time
from multiprocessing import Pipe

import psutil
import pytest
import torch

from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument
from ouzel.finetune import make_recipe
from ouzel.finetune.distributed.group import SECONDS
from ouzel.finetune.distributed.lead import RankLost
from ouzel.finetune.events import TELL
from ouzel.finetune.search import COMPLETE, DIVERGED, PRUNED, Trial, search
from ouzel.finetune.search.channel import Channel
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


class Together:
    """Images of which one cannot be read before two trials have begun, so that they run beside each other."""

    def __init__(self, examples) -> None:
        self.told: list[Trial] = []
        self.under_way: set[int] = set()
        self.most = 0
        self._both = threading.Event()
        first, *rest = examples
        self.examples = [dataclasses.replace(first, read=lambda: self._read(first)), *rest]

    def on_trial(self, trial: Trial) -> None:
        self.told.append(trial)
        (self.under_way.discard if trial.outcome else self.under_way.add)(trial.number)
        self.most = max(self.most, len(self.under_way))
        if self.most == 2:
            self._both.set()

    def _read(self, example) -> bytes:
        assert self._both.wait(300)
        return example.read()


def test_a_trial_comes_to_the_same_whatever_runs_beside_it(tiny, colours, monkeypatch):
    """Bit by bit, in each epoch that it learnt for, also after the features of the first one are there.

    Halving stops whichever comes later and is worse; one trial is stopped whenever it comes.
    """
    recipe, before, together, started = make_recipe("lp_ft", FAST), children(), Together(colours), Started()
    alone = search(tiny, colours, recipe, RATES, trials=4, seed=2)
    report = Study.report
    monkeypatch.setattr(Study, "report", lambda self, trial, *more: report(self, trial, *more) or trial.number == 2)
    found = search(
        tiny, together.examples, recipe, RATES, trials=8, seed=2, workers=2, on_trial=together.on_trial, starter=started
    )  # fmt: skip
    assert len(started.processes) == together.most == 2
    assert together.under_way == set()
    assert len(together.told) == 16  # each when it begins, and when it has ended
    expected, compared = reports(alone.trials), 0
    assert len(expected) == 2  # both rates were tried
    for rate, given in reports(found.trials).items():
        longest = max(expected[rate], key=len)
        for each in given:
            shared = each.keys() & longest.keys()
            compared += len(shared)
            assert {epoch: each[epoch] for epoch in shared} == {epoch: longest[epoch] for epoch in shared}
    assert compared >= len(found.trials)  # of each trial one epoch at least
    assert [each.number for each in found.trials] == list(range(1, 9))
    assert found.trials[0].parameters == alone.trials[0].parameters
    assert {each.outcome for each in found.trials} <= {COMPLETE, PRUNED}
    assert all(each.epochs == 3 for each in found.trials if each.outcome == COMPLETE)
    assert (found.trials[1].outcome, found.trials[1].epochs) == (PRUNED, 1)
    for each in found.trials:
        if each.outcome == PRUNED and each.number != 2:  # at a rung, where another one was better
            assert "not in the best third" in each.reason
            assert each.epochs in (1, 3)
            assert each.reports[each.epochs] < max(one.reports.get(each.epochs, 0) for one in found.trials)
    assert found.best.value == max(each.value for each in found.trials)
    assert found.recipe == dataclasses.replace(recipe, learning_rate=found.best.parameters["learning_rate"])
    assert children() == before


def test_a_worker_that_is_killed_ends_the_search_and_the_next_has_what_had_ended(tiny, colours):
    recipe, before, together, started = make_recipe("scratch", FAST), children(), Together(colours), Started()

    def kill() -> None:
        if sum(bool(each.outcome) for each in together.told) >= 2:
            started.processes[1].kill()

    with pytest.raises(RankLost, match="worker 2 of the search was ended by signal 9"):
        search(
            tiny, together.examples, recipe, RATES, trials=6, seed=2, workers=2, on_trial=together.on_trial,
            on_wait=kill, starter=started,
        )  # fmt: skip
    assert started.processes[0].returncode == 0  # of itself, as its connection was closed
    assert children() == before
    kept = [Trial.from_dict(checkpoint.read(checkpoint.dump(each.to_dict()))) for each in together.told]
    finished, begun = [each for each in kept if each.outcome], [each for each in kept if not each.outcome]
    again: list[Trial] = []
    found = search(
        tiny, colours, recipe, RATES, trials=6, seed=2, workers=2, finished=finished, begun=begun,
        on_trial=again.append,
    )  # fmt: skip
    assert [each.number for each in found.trials] == [1, 2, 3, 4, 5, 6]
    for each in finished:
        assert found.trials[each.number - 1] == each
    left = [each for each in begun if each.number not in {one.number for one in finished}]
    assert left
    for each in left:
        assert found.trials[each.number - 1].parameters == each.parameters
    assert [each.number for each in again if not each.outcome] == [
        number for number in range(1, 7) if number not in {each.number for each in finished}
    ]


class Enough(Exception):
    pass


def test_who_hears_may_end_the_search(tiny, colours):
    started = Started()

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        search(tiny, colours, make_recipe("scratch", FAST), RATES, trials=2, workers=2, on_wait=stop, starter=started)
    assert all(each.returncode is not None for each in started.processes)


def test_a_worker_that_stands_still_ends_the_search(tiny, colours, monkeypatch):
    started = Started()

    def stop(event) -> None:
        if event.phase == "training":
            monkeypatch.setattr("ouzel.finetune.search.parallel.SECONDS", 8.0)  # they have begun, which takes long
            os.kill(started.processes[0].pid, signal.SIGSTOP)

    recipe = make_recipe("scratch", FAST | {"epochs": 100, "patience": 100})
    with pytest.raises(RankLost, match="worker 1 of the search has said nothing for 8 s"):
        search(tiny, colours, recipe, RATES, trials=1, workers=2, starter=started, on_event=stop)
    assert started.processes[0].returncode == -signal.SIGKILL


class Late:
    """Starts workers once a search has told often enough that they start."""

    def __init__(self, often: int) -> None:
        self._left = often
        self._enough = threading.Event()
        self._workers: LocalWorkers | None = None

    def __call__(self, count, joined):
        self._thread = threading.Thread(target=self._start, args=(count, joined))
        self._thread.start()
        return self

    def _start(self, count, joined) -> None:
        if self._enough.wait(60):
            self._workers = LocalWorkers(count, joined)

    def on_event(self, event) -> None:
        if event.phase == "starting":
            assert (event.step, event.steps) == (0, 2)
            self._left -= 1
            if not self._left:
                self._enough.set()

    def lost(self):
        return None if self._thread.is_alive() or self._workers else RankLost("nobody heard that workers start")

    def close(self) -> None:
        self._thread.join()
        if self._workers is not None:
            self._workers.close()


def test_while_workers_start_it_is_told_again_and_again(tiny, colours, monkeypatch):
    """Or a slow start would be taken for a hang, and begin again, for ever."""
    monkeypatch.setattr("ouzel.finetune.search.parallel.TELL", 0.1)
    late, recipe = Late(5), make_recipe("scratch", FAST)
    found = search(tiny, colours, recipe, RATES, trials=2, workers=2, starter=late, on_event=late.on_event)
    assert len(found.trials) == 2


class Clock:
    """Each look takes a second."""

    def __init__(self) -> None:
        self._now = 0.0
        self.sleep = time.sleep

    def monotonic(self) -> float:
        self._now += 1
        return self._now


class Silent:
    """Workers that never come."""

    def __call__(self, count, joined):
        return self

    def lost(self) -> None:
        return None

    def close(self) -> None:
        pass


def test_that_workers_start_is_not_told_for_ever(tiny, colours, monkeypatch):
    """So that who waits for events finds a search that stands still."""
    clock, told = Clock(), []
    monkeypatch.setattr("ouzel.finetune.search.parallel.time", clock)
    monkeypatch.setattr("ouzel.finetune.search.parallel._LOOK", 0.001)

    def wait() -> None:
        if clock.monotonic() > 10 * SECONDS:
            raise Enough

    with pytest.raises(Enough):
        search(
            tiny, colours, make_recipe("scratch", FAST), RATES, trials=2, workers=2, starter=Silent(),
            on_event=lambda event: told.append(clock.monotonic()), on_wait=wait,
        )  # fmt: skip
    assert 2 <= len(told) <= SECONDS / TELL + 1
    assert told[-1] <= SECONDS + TELL


def test_a_message_that_cannot_be_read_ends_the_channel(caplog):
    ours, theirs = Pipe()
    ended = threading.Event()
    channel = Channel(ours, lambda message: None, ended.set)
    with theirs:
        theirs.send_bytes(b"no pickle")
        assert ended.wait(60)
        channel.close()
    assert "a message could not be read" in caplog.text


def test_a_worker_that_cannot_start_is_told(tiny, colours, monkeypatch):
    monkeypatch.setattr("ouzel.finetune.search.processes.MODULE", "ouzel.nothing")
    with pytest.raises(RankLost, match=r"worker \d of the search ended with status 1"):
        search(tiny, colours, make_recipe("scratch", FAST), RATES, trials=4, workers=2)


class Heard:
    """Workers that compute nothing, and what the first one is told first."""

    def __call__(self, count, joined):
        ours, self._theirs = Pipe()
        joined(0, ours)
        self.setup = pickle.loads(self._theirs.recv_bytes())
        return self

    def lost(self) -> None:
        return None

    def close(self) -> None:
        self._theirs.close()


def test_workers_compute_where_the_base_is(tiny, colours, monkeypatch):
    """On another device, the same values would come to something else than with one worker."""
    heard = Heard()

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough):
        search(tiny, colours, make_recipe("scratch", FAST), RATES, trials=2, workers=2, on_wait=stop, starter=heard)
    monkeypatch.setattr("ouzel.finetune.search.messages.device_of_rank", lambda: torch.device("meta"))  # a GPU
    places = [dataclasses.replace(heard.setup, gpu=gpu).model() for gpu in (heard.setup.gpu, True)]
    assert [next(each.network.parameters()).device.type for each in places] == ["cpu", "meta"]


class Unloadable(torch.nn.Module):
    """A network that no other process can have."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self._code = code

    def __reduce__(self):
        return exec, (self._code,)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("raise MemoryError", MemoryError, "a worker of the search ran out of memory"),
        ("import ouzel.nothing", ModuleNotFoundError, r"ouzel\.nothing"),
    ],
)
def test_a_worker_that_cannot_have_the_network_says_why(tiny, colours, code, error, words):
    base = dataclasses.replace(tiny, network=Unloadable(code))
    with pytest.raises(error, match=words):
        search(base, colours, make_recipe("scratch", FAST), RATES, trials=2, workers=2)


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


def test_of_trials_that_run_at_a_time_the_worse_is_stopped_when_it_gets_as_far():
    study = Study(space_of(RATES), make_recipe("scratch", FAST), 1)
    first, second, third = (study.ask() for _ in range(3))
    assert not study.report(second, 1, 0.5)
    assert study.report(third, 1, 0.4)
    assert not study.report(first, 1, 0.6)
    assert not study.report(second, 2, 0.5)  # no rung
    assert not study.report(first, 3, 0.7)
    assert study.report(second, 3, 0.6)
