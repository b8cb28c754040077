"""Several processes compute a training together: what comes of it, and what happens when one is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.finetune import finetune, make_recipe
from ouzel.finetune.distributed.lead import RankLost, packed, unpacked
from ouzel.finetune.distributed.messages import shares, sizes
from ouzel.finetune.distributed.norms import WholeBatch
from ouzel.finetune.distributed.processes import MODULE, READY, LocalRanks, local
from ouzel.finetune.variation import Pixels, variation
from ouzel.worker.kinds import checkpoint
from ouzel_protos.recipes import DISTRIBUTED

# The last batch of an epoch has fewer images than three ranks.
FAST = {"epochs": 2, "batch_size": 4, "patience": 50, "learning_rate": 0.01, "color": 0.2}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch):
    monkeypatch.setattr("ouzel.finetune.loop.TELL_EVERY", 0)


def distance(a, b) -> float:
    pairs = zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True)
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)


def children() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}


def test_learning_norms_see_the_whole_batch_also_where_a_process_has_no_image(tiny, colours):
    recipe = make_recipe("scratch", {"epochs": 1, "batch_size": 3})
    some = [each for number, each in enumerate(colours) if number not in (0, 5)]
    one, three = (finetune(tiny, some, recipe, seed=1, workers=count) for count in (1, 3))
    assert len(one.split.train) % 3 == 2  # so that a process has no image of the last batch
    # Adam divides by the size of gradients, also of those that are rounding alone: some weights drift apart.
    assert [row["loss"] for row in three.history] == pytest.approx([row["loss"] for row in one.history], rel=1e-3)
    statistics = [name for name in one.network.state_dict() if name.endswith("running_mean")]
    for name in statistics:
        first, second = one.network.state_dict()[name], three.network.state_dict()[name]
        assert torch.allclose(first, second, atol=0.05)


def test_two_give_what_one_gives_also_if_one_was_killed_and_the_training_went_on(tiny, colours):
    """Frozen statistics, in both stages, with batches of which the second process gets more than the first."""
    recipe, before = make_recipe("fine_tune", FAST | {"batch_size": 5}), children()
    whole = finetune(tiny, colours, recipe, seed=3)
    states: list[bytes] = []
    started: list[LocalRanks] = []

    def launch(ranks: int) -> LocalRanks:
        started.append(local(ranks))
        return started[-1]

    def remember_and_kill(event) -> None:
        if event.state is not None:
            states.append(checkpoint.dump(event.state()))
        if len(states) == 6:
            os.kill(started[0]._ranks[1].process.pid, signal.SIGKILL)

    with pytest.raises(RankLost, match="worker 1 of the training was ended by signal 9"):
        finetune(tiny, colours, recipe, seed=3, workers=2, launcher=launch, on_event=remember_and_kill)
    assert not dist.is_initialized()
    resumed = finetune(tiny, colours, recipe, seed=3, workers=2, resume=checkpoint.read(states[-1]))
    assert distance(whole, resumed) <= 1e-5
    assert [row["loss"] for row in resumed.history] == pytest.approx([row["loss"] for row in whole.history], rel=1e-4)
    assert (resumed.steps, resumed.test.confusion) == (whole.steps, whole.test.confusion)
    assert children() == before
    assert not dist.is_initialized()


def test_one_that_stands_still_is_lost_and_ended(tiny, colours, monkeypatch):
    monkeypatch.setattr("ouzel.finetune.distributed.group.SECONDS", 2.0)  # of this process alone
    monkeypatch.setattr("ouzel.finetune.distributed.lead._SETTLE", 0.1)
    started: list[LocalRanks] = []

    def launch(ranks: int) -> LocalRanks:
        started.append(local(ranks))
        return started[-1]

    def stop(event) -> None:
        if event.phase == "training":
            os.kill(started[0]._ranks[1].process.pid, signal.SIGSTOP)

    with pytest.raises(RankLost, match="a worker of the training does not answer"):
        finetune(tiny, colours, make_recipe("fine_tune", FAST), workers=2, launcher=launch, on_event=stop)
    assert started[0]._ranks[1].process.returncode == -signal.SIGKILL
    assert not dist.is_initialized()


def test_while_ranks_start_it_is_told_again_and_again(tiny, colours, monkeypatch):
    """Or a slow start would be taken for a hang, and begin again, for ever."""
    monkeypatch.setattr("ouzel.finetune.distributed.processes.TELL", 0.1)
    monkeypatch.setattr("ouzel.finetune.distributed.processes.SECONDS", 60.0)
    started: list[LocalRanks] = []
    told: list[tuple[int, int]] = []

    def launch(ranks: int) -> LocalRanks:
        started.append(local(ranks))
        os.kill(started[0]._ranks[1].process.pid, signal.SIGSTOP)
        return started[0]

    def wake(event) -> None:
        if event.phase == "starting":
            told.append((event.step, event.steps))
            if len(told) == 3:
                os.kill(started[0]._ranks[1].process.pid, signal.SIGCONT)

    finetune(tiny, colours, make_recipe("scratch", FAST), workers=2, launcher=launch, on_event=wake)
    assert len(told) >= 3
    assert set(told) == {(0, 1)}


def test_one_whose_parent_is_killed_before_they_have_met_ends(tmp_path):
    command = [sys.executable, "-m", MODULE, str(tmp_path / "store"), "gloo", "1", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as rank:
        try:
            assert rank.stdout.read(1) == READY
            rank.stdin.close()  # as the kernel does for whoever is killed
            rank.wait(60)  # and not for the 300 s that it waits for the others
        finally:
            rank.kill()


def test_one_that_cannot_start_is_told(tiny, colours, monkeypatch):
    monkeypatch.setattr("ouzel.finetune.distributed.processes.MODULE", "ouzel.nothing")
    with pytest.raises(RankLost, match="worker 1 of the training ended with status 1"):
        finetune(tiny, colours, make_recipe("fine_tune", FAST), workers=2)


@pytest.mark.parametrize(
    ("recipe", "workers", "words"),
    [
        ("fine_tune", 0, "0 is not within 1..64"),
        ("fine_tune", 65, "65 is not within 1..64"),
        ("feature_extractor", 2, "feature_extractor trains with one; fine_tune, lp_ft, scratch, segment train with"),
        ("fine_tune", 17, "17 are more than the 16 images of a batch"),
        ("fine_tune", 1.5, "1.5 is not an integer"),
    ],
)
def test_workers_that_cannot_be_used_are_refused(tiny, colours, recipe, workers, words):
    with pytest.raises(InvalidArgument, match="workers") as caught:
        finetune(tiny, colours, recipe, workers=workers)
    assert words in str(caught.value)
    assert caught.value.field == "workers"


def test_the_service_knows_how_many_images_recipes_take_at_a_time():
    assert {name: make_recipe(name, {}).batch_size for name in DISTRIBUTED} == DISTRIBUTED


def test_shares_are_the_batch_in_order(tiny):
    chance = np.random.default_rng(0)
    lengths = chance.integers(20, 60, (7, 2))
    images = [torch.from_numpy(chance.integers(0, 256, (*each, 3), dtype=np.uint8)) for each in lengths]
    areas = lengths.prod(1)
    places = torch.from_numpy(np.stack([areas.cumsum() - areas, lengths[:, 1]], 1))
    pixels = Pixels(torch.cat([each.flatten(0, 1) for each in images]), places)
    vary = variation(make_recipe("fine_tune", {"color": 0.5}), tiny.preprocessing)
    views = vary.draw((1, 0, 5), lengths)
    whole = vary(pixels, views)
    for ranks in (1, 2, 3, 7, 9):
        parts = shares(pixels, lengths, views, torch.arange(7), (1, 0, 5), ranks=ranks)
        assert [each.counted for each in parts] == sizes(7, ranks)
        assert torch.cat([each.classes[: each.counted] for each in parts]).tolist() == list(range(7))
        made = [vary(each.pixels, each.views)[: each.counted] for each in parts]
        assert torch.equal(torch.cat(made), whole)
        assert len({len(each.turns(2)) for each in parts}) == 1
        for turns in zip(*(each.turns(2) for each in parts), strict=True):
            assert sum(turn.counted for turn in turns) == turns[0].total
        assert parts[-1].pixels.values.shape[0] < pixels.values.shape[0] or ranks == 1


def test_a_message_is_what_was_packed(tiny):
    from ouzel.finetune.distributed.messages import Begin

    recipe = make_recipe("scratch", {})
    told = Begin(tiny.network, frozenset({"fc.weight"}), True, {}, None, recipe, None, 4, "exact", False, None)
    read = unpacked(packed(told))
    assert (read.head, read.recipe, read.micro) == (told.head, recipe, 4)
    assert all(map(torch.equal, read.network.parameters(), tiny.network.parameters()))


def test_norms_are_torchs_where_one_process_has_all(tmp_path):
    """Value, gradients and running statistics, with one image that does not count."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 100
        ours, theirs = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        a, b = x.clone().requires_grad_(), x[:4].clone().requires_grad_()
        with WholeBatch(4, 4, dist.group.WORLD):
            first = ours(a)
        second = theirs(b)
        assert torch.allclose(first[:4], second, atol=1e-4)
        first[:4].pow(3).sum().backward()
        second.pow(3).sum().backward()
        assert torch.allclose(a.grad[:4], b.grad, rtol=1e-3, atol=1e-3)
        assert torch.allclose(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-3)
        assert torch.allclose(ours.running_mean, theirs.running_mean)
        assert torch.allclose(ours.running_var, theirs.running_var, rtol=1e-4)
        ours.eval()
        with WholeBatch(4, 4, dist.group.WORLD):
            assert torch.equal(ours(x), torch.nn.functional.batch_norm(
                x, ours.running_mean, ours.running_var, ours.weight, ours.bias))  # fmt: skip
    finally:
        dist.destroy_process_group()
