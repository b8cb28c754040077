"""The loop: what is trained, what chance gives, what is kept, when it ends."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from typing import Any

import pytest
import torch

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune import Diverged, Event, finetune, make_recipe
from ouzel.finetune.network import logits_of
from ouzel.models.heads import head_tensors
from ouzel.precision_names import PRECISIONS
from ouzel.worker.kinds import checkpoint
from support.arithmetic import expected, seen, set_by_user

FAST = {"epochs": 2, "batch_size": 4, "patience": 50}


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch):
    """Small networks take many steps before anything would be told."""
    monkeypatch.setattr("ouzel.finetune.loop.TELL_EVERY", 0)


def weights(tuned: Any) -> dict[str, torch.Tensor]:
    return tuned.network.state_dict()


def distance(a: Any, b: Any) -> float:
    return max(
        float((x.double() - y.double()).abs().max())
        for x, y in zip(weights(a).values(), weights(b).values(), strict=True)
    )


@pytest.mark.parametrize("name", ["fine_tune", "lp_ft", "scratch"])
def test_a_run_that_was_stopped_anywhere_ends_as_one_that_was_not(tiny, colours, name, tmp_path):
    recipe = make_recipe(name, FAST | {"learning_rate": 0.01, "color": 0.2})
    states: list[bytes] = []

    def remember(event: Event) -> None:
        if event.state is not None:
            states.append(checkpoint.dump(event.state()))  # as a file, that nothing of the run hangs on

    whole = finetune(tiny, colours, recipe, seed=3, on_event=remember)
    assert len(states) > 6
    for state in (states[0], states[len(states) // 2], states[-1]):
        resumed = finetune(tiny, colours, recipe, seed=3, resume=checkpoint.read(state))
        assert distance(whole, resumed) <= 1e-5
        assert resumed.test == whole.test
        assert resumed.chosen == whole.chosen
        assert [row["accuracy"] for row in resumed.history] == [row["accuracy"] for row in whole.history]


def test_a_state_of_another_network_is_begun_anew(tiny, colours):
    recipe, states = make_recipe("lp_ft", FAST), []
    finetune(tiny, colours, recipe, on_event=lambda event: event.state and states.append(event.state()))
    with torch.random.fork_rng():
        torch.manual_seed(9)
        network = models.build(tiny.arch, num_classes=4)
    other = dataclasses.replace(tiny, network=network, digest="sha256:other")
    assert distance(finetune(other, colours, recipe), finetune(other, colours, recipe, resume=states[-1])) <= 1e-5


def test_a_state_of_another_recipe_is_begun_anew(tiny, colours):
    """As that of a job whose defaults have changed with an update."""
    recipe, states = make_recipe("lp_ft", FAST), []
    finetune(tiny, colours, recipe, on_event=lambda event: event.state and states.append(event.state()))
    other = dataclasses.replace(recipe, weight_decay=0.5, learning_rate=recipe.learning_rate / 2)
    assert distance(finetune(tiny, colours, other), finetune(tiny, colours, other, resume=states[-1])) <= 1e-5


def test_a_state_between_last_step_and_validation_keeps_the_loss(tiny, colours):
    recipe, states = make_recipe("fine_tune", FAST), []

    def remember(event: Event) -> None:
        if event.phase == "training" and event.step == event.steps:
            states.append(checkpoint.dump(event.state()))

    whole = finetune(tiny, colours, recipe, on_event=remember)
    resumed = finetune(tiny, colours, recipe, resume=checkpoint.read(states[-2]))
    assert [row["train_loss"] for row in resumed.history] == pytest.approx([row["train_loss"] for row in whole.history])


def test_large_seeds_and_long_validations(tiny, colours, monkeypatch):
    monkeypatch.setattr("ouzel.finetune.loop._SIGN", 32)
    many = [
        dataclasses.replace(each, name=f"{each.name} {n}", sha256=f"{each.sha256} {n}")
        for each in colours
        for n in range(8)
    ]
    told = []
    finetune(tiny, many, make_recipe("fine_tune", FAST), seed=2**63 - 1, on_event=told.append)
    assert any((event.phase, event.step) == ("validating", 32) for event in told)


def test_the_seed_decides(tiny, colours):
    recipe = make_recipe("scratch", FAST)
    first, again, other = (finetune(tiny, colours, recipe, seed=seed) for seed in (1, 1, 2))
    assert distance(first, again) == 0
    assert distance(first, other) > 1e-3


def test_torchs_own_generator_is_left_alone(tiny, colours):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    finetune(tiny, colours, make_recipe("lp_ft", FAST))
    assert torch.equal(torch.rand(3), expected)


def test_fewer_images_at_a_time_give_the_same_gradients(tiny, colours):
    recipe = make_recipe("lp_ft", FAST)  # BatchNorms keep the statistics of the base
    whole, parts = (finetune(tiny, colours, recipe, batch_scale=scale) for scale in (1.0, 0.5))
    assert whole.history[-1]["loss"] == pytest.approx(parts.history[-1]["loss"], rel=1e-3)


def test_the_base_stays_as_it_is(tiny, colours):
    before = copy.deepcopy(tiny.network.state_dict())
    finetune(tiny, colours, make_recipe("fine_tune", FAST | {"learning_rate": 0.1}))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), tiny.network.state_dict().values(), strict=True))
    assert not any(parameter.requires_grad for parameter in tiny.network.parameters())


def test_frozen_epochs_train_the_head_alone_and_then_everything_moves(tiny, colours):
    recipe = make_recipe("fine_tune", FAST | {"frozen_epochs": 1, "epochs": 1})
    seen: list[dict[str, torch.Tensor]] = []

    def watch(event: Event) -> None:
        assert event.state is not None
        seen.append({name: each.clone() for name, each in event.state()["training"]["network"].items()})

    finetune(tiny, colours, recipe, on_event=watch)
    head = head_tensors(tiny.arch, 3)
    per_epoch = len(seen) // 2
    body = [name for name in seen[0] if name not in head]
    base = tiny.network.state_dict()
    assert all(torch.equal(seen[per_epoch - 1][name], base[name]) for name in body)
    assert not torch.equal(seen[0]["fc.weight"], seen[per_epoch - 1]["fc.weight"])
    moved = [name for name in body if not torch.equal(seen[-1][name], base[name])]
    assert moved
    assert all("running" not in name for name in moved)


def test_batchnorms_learn_only_where_they_are_told_to(tiny, colours):
    recipe = make_recipe("fine_tune", FAST | {"train_batchnorm": True, "frozen_epochs": 0})
    tuned = finetune(tiny, colours, recipe)
    base = tiny.network.state_dict()
    assert any("running" in name and not torch.equal(each, base[name]) for name, each in weights(tuned).items())


def test_first_layers_learn_more_slowly(tiny, colours):
    """AdamW's first step is the rate itself, whatever the gradient."""
    recipe = make_recipe("lp_ft", FAST | {"spread": 100.0, "weight_decay": 0.0, "learning_rate": 1e-3})
    states: list[Any] = []

    def first(event: Event) -> None:
        if event.phase == "training":
            states.append(copy.deepcopy(event.state()["training"]["network"]))
            raise Stop

    with pytest.raises(Stop):
        finetune(tiny, colours, recipe, on_event=first)
    base = tiny.network.state_dict()
    moved = (states[0]["conv1.0.weight"] - base["conv1.0.weight"]).abs().max()
    assert float(moved) == pytest.approx(1e-3 / 5 / 100, rel=0.05)


def test_a_loss_that_is_no_number_ends_the_run_and_the_best_is_in_the_last_state(tiny, colours):
    recipe = make_recipe("fine_tune", FAST | {"epochs": 30, "learning_rate": 1.0, "warm_up": 0.9, "spread": 1.0})
    last: list[Any] = []

    def spoil(event: Event) -> None:
        last[:] = [event.state()]
        if event.metrics.get("epoch", 0) > 1.5:
            with torch.no_grad():
                event.state()["training"]["network"]["fc.bias"].fill_(float("nan"))  # of the live network

    with pytest.raises(Diverged, match="the loss became nan in step") as caught:
        finetune(tiny, colours, recipe, on_event=spoil)
    assert isinstance(caught.value, FailedPrecondition)
    assert caught.value.field == "parameters.learning_rate"
    best = last[0]["training"]["progress"]["best"]
    assert best is not None
    assert all(bool(torch.isfinite(each).all()) for each in best.values())


def test_training_ends_when_nothing_gets_better(tiny, colours):
    recipe = make_recipe("lp_ft", {"epochs": 50, "patience": 2, "learning_rate": 1e-8, "batch_size": 8})
    tuned = finetune(tiny, colours, recipe)
    assert len(tuned.history) < 20


def test_training_ends_in_time_with_the_best_that_there_is(tiny, colours):
    recipe = make_recipe("scratch", {"epochs": 1000, "patience": 1000, "batch_size": 8})
    start = time.monotonic()

    def slow(event: Event) -> None:
        time.sleep(0.01)

    tuned = finetune(tiny, colours, recipe, max_training_seconds=1.0, on_event=slow)
    assert time.monotonic() - start < 60  # 1000 epochs would take several minutes
    assert tuned.history
    assert tuned.test.images
    assert (1 <= tuned.steps < tuned.planned_steps, tuned.out_of_time) == (True, True)


def test_no_time_for_any_fine_tuning_is_said(tiny, colours):
    """The head is a result without a step; where there is none, there is one step."""
    parameters = {"epochs": 2, "batch_size": 4}
    tuned = finetune(tiny, colours, make_recipe("lp_ft", parameters), max_training_seconds=1e-6)
    per_epoch = math.ceil(len(tuned.split.train) / 4)
    assert (tuned.steps, tuned.planned_steps, tuned.out_of_time) == (0, 2 * per_epoch, True)
    assert (tuned.history, tuned.chosen) == ((), "feature_extractor")
    assert "before any fine-tuning" in " ".join(tuned.notes)
    tuned = finetune(tiny, colours, make_recipe("scratch", parameters), max_training_seconds=1e-6)
    assert (tuned.steps, tuned.out_of_time, len(tuned.history)) == (1, True, 1)
    assert f"after 1 of {2 * per_epoch} steps" in " ".join(tuned.notes)
    for recipe in ("lp_ft", "feature_extractor"):
        chosen = make_recipe(recipe, parameters if recipe == "lp_ft" else {})
        tuned = finetune(tiny, colours, chosen, max_training_seconds=600)
        assert (tuned.steps, tuned.out_of_time, tuned.notes) == (tuned.planned_steps, False, ())


def test_the_head_is_kept_where_training_does_not_beat_it(tiny, colours):
    recipe = make_recipe("lp_ft", {"epochs": 1, "learning_rate": 1.0, "warm_up": 0.0, "spread": 1.0, "batch_size": 4})
    tuned = finetune(tiny, colours, recipe)
    plain = finetune(tiny, colours, make_recipe("feature_extractor", {}))
    assert tuned.chosen == "feature_extractor"
    assert tuned.validation["feature_extractor"] >= tuned.validation["lp_ft"]
    # lp_ft learns from mirrored images too: the same recipe but for that.
    assert tuned.test.accuracy == plain.test.accuracy == 1.0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_are_computed_as_asked_and_figures_exactly(tiny, colours, monkeypatch, precision):
    """Watches what the network's passes of training and of validation see; on a CPU, in both cases."""
    passes = []

    def watched(output):
        passes.append((torch.is_grad_enabled(), seen()))
        return logits_of(output)

    for place in ("loop", "steps"):
        monkeypatch.setattr(f"ouzel.finetune.{place}.logits_of", watched)
    events = []
    with set_by_user("older"), torch.autocast("cpu", torch.bfloat16):
        before = seen()
        recipe = make_recipe("fine_tune", FAST | {"epochs": 1})
        tuned = finetune(tiny, colours, recipe, precision=precision, on_event=events.append)
        assert seen() == before
    assert tuned.precision == precision
    value = "tf32" if precision == "tf32" else "ieee"
    assert {is_step for is_step, _ in passes} == {True, False}
    for is_step, flags in passes:
        assert flags == (expected(value, autocast=precision == "bf16") if is_step else expected("ieee"))


def test_an_unknown_precision_is_refused(tiny, colours):
    with pytest.raises(InvalidArgument, match="precision: 'half' is not one of exact, tf32, bf16"):
        finetune(tiny, colours, precision="half")
