"""The search for hyper-parameters: what is refused, found and stopped, and what an interruption changes."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from ouzel.errors import InvalidArgument
from ouzel.finetune import finetune, make_recipe
from ouzel.finetune.data import split
from ouzel.finetune.search import COMPLETE, DIVERGED, PRUNED, Trial, search
from ouzel.finetune.search.study import Study, rank
from ouzel.worker.kinds import checkpoint
from ouzel_protos.search import BadSearch, Choices, Interval, read, space_of

FAST = {"epochs": 3, "batch_size": 8, "patience": 50, "crop": 1.0, "flip": False}


@pytest.fixture(autouse=True)
def every_step_is_told(monkeypatch):
    monkeypatch.setattr("ouzel.finetune.loop.TELL_EVERY", 0)


@pytest.mark.parametrize(
    ("space", "more", "field", "words"),
    [
        ({}, {}, "search", "names no parameter"),
        ({"learning_rat": (1e-5, 1e-2)}, {}, "search.learning_rat", "fine_tune knows only epochs"),
        ({"learning_rate": (1e-2, 1e-5)}, {}, "search.learning_rate", "the range 0.01 to 1e-05 is empty"),
        ({"learning_rate": (1e-9, 1e-2)}, {}, "search.learning_rate", "is not within 1e-08..1"),
        ({"weight_decay": (0.0, 1e-2, "log")}, {}, "search.weight_decay", "begins above 0, and this one at 0"),
        ({"learning_rate": (1e-5, float("nan"))}, {}, "search.learning_rate", "nan is not within 1e-08..1"),
        ({"learning_rate": (1e-5, 1e-2, "cube")}, {}, "search.learning_rate", "'cube' is neither 'log' nor 'linear'"),
        ({"learning_rate": 1e-3}, {}, "search.learning_rate", "neither (low, high), (low, high, 'log') nor a list"),
        ({"learning_rate": ("a", "b")}, {}, "search.learning_rate", "'a' is not a number"),
        ({"epochs": (1.5, 3)}, {}, "search.epochs", "1.5 is not an integer"),
        ({"flip": (0, 1)}, {}, "search.flip", "give a list of both"),
        ({"flip": [True]}, {}, "search.flip", "1 values are not within 2..64"),
        ({"flip": [True, True]}, {}, "search.flip", "has a value twice"),
        ({"batch_size": [4, 10**6]}, {}, "search.batch_size", "is not within 2..1024"),
        ({"held_out": (0.1, 0.2)}, {}, "search.held_out", "cannot be searched"),
        ({"learning_rate": (1e-5, 1e-2)}, {"trials": 0}, "trials", "0 is not within 1..256"),
        ({"learning_rate": (1e-5, 1e-2)}, {"trials": 257}, "trials", "257 is not within 1..256"),
        ({"learning_rate": (1e-5, 1e-2)}, {"recipe": "segment"}, "search", "segment is not searched; fine_tune"),
        (["learning_rate"], {}, "search", "is not a mapping"),
    ],
)
def test_what_cannot_be_searched_is_refused(tiny, colours, space, more, field, words):
    with pytest.raises(InvalidArgument) as caught:
        search(tiny, colours, space=space, **{"recipe": "fine_tune", **more})
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate=1e-5:1e-2:log", ("learning_rate", Interval(1e-5, 1e-2, True))),
        ("crop=0.2:1", ("crop", Interval(0.2, 1))),
        ("batch_size=4,8", ("batch_size", Choices((4, 8)))),
        ("flip=true,false", ("flip", Choices((True, False)))),
    ],
)
def test_a_command_line_says_what_python_says(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize("text", ["x", "x=", "=1:2", "x=1:2:3", "x=a:b", "x=1:2:log:1", "x=a,b"])
def test_other_texts_are_refused(text):
    with pytest.raises(BadSearch, match="search"):
        read(text)


def test_a_list_is_no_range():
    assert space_of({"a": [1, 2], "b": (1, 2), "c": (1, 2, "log")}) == {
        "a": Choices((1, 2)), "b": Interval(1, 2), "c": Interval(1, 2, True)
    }  # fmt: skip


def test_one_image_counts_more_than_any_loss():
    ranks = [rank(right / 10, loss, 10) for right in range(11) for loss in (1e9, 3.0, 0.1, 0.0)]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)


def test_the_better_rate_is_found_and_bad_trials_are_stopped(tiny, colours, monkeypatch):
    """One rate changes nothing, and one is far too high; what is asked for comes out, in the same words each time."""
    recipe = make_recipe("scratch", FAST)
    told: list[Trial] = []
    seen: list[set[str]] = []
    module = sys.modules["ouzel.finetune.search.training"]

    def noted(base, data, *rest, **more):
        seen.append({each.name for each in data if each.split in ("train", "validation")})
        return finetune(base, data, *rest, **more)

    monkeypatch.setattr(module, "finetune", noted)
    space = {"learning_rate": [1e-8, 3e-3]}
    found = search(tiny, colours, recipe, space, trials=6, seed=2, on_trial=told.append)
    assert found.best.parameters == {"learning_rate": 3e-3}
    assert found.recipe == dataclasses.replace(recipe, learning_rate=3e-3)
    assert [each.number for each in found.trials] == list(range(1, 7))
    assert {each.outcome for each in found.trials} == {COMPLETE, PRUNED}
    stopped = [each for each in found.trials if each.outcome == PRUNED]
    assert all(each.epochs < 3 and "not in the best third" in each.reason for each in stopped)
    assert all(each.epochs == 3 for each in found.trials if each.outcome == COMPLETE)
    assert [(each.number, bool(each.outcome)) for each in told] == [
        (number, ended) for number in range(1, 7) for ended in (False, True)
    ]
    # What is held out, and what the epoch of the last training is chosen by, is in no trial.
    parts = split(colours, recipe, 2)
    kept = {each.name for each in (*parts.validation, *parts.test)}
    assert all(not names & kept for names in seen)
    assert found.learnt + found.compared == len(parts.train) == len(seen[0])


def test_an_interrupted_search_tries_and_finds_the_same(tiny, colours):
    recipe = make_recipe("lp_ft", FAST | {"epochs": 2})
    space = {"learning_rate": (1e-5, 1e-1, "log"), "epochs": (1, 3), "batch_size": [4, 8]}
    whole = search(tiny, colours, recipe, space, trials=4, seed=5)
    finished: list[Trial] = []
    state: list[bytes] = []

    class Stop(Exception):
        pass

    def stop(event) -> None:
        if len(finished) == 2 and event.phase == "training" and event.state is not None:
            state.append(checkpoint.dump(event.state()))
            raise Stop

    def keep(trial: Trial) -> None:
        if trial.outcome:
            finished.append(trial)

    with pytest.raises(Stop):
        search(tiny, colours, recipe, space, trials=4, seed=5, on_event=stop, on_trial=keep)
    kept = [Trial.from_dict(checkpoint.read(checkpoint.dump(each.to_dict()))) for each in finished]
    again = search(tiny, colours, recipe, space, trials=4, seed=5, finished=kept, resume=checkpoint.read(state[0]))
    assert [(each.parameters, each.outcome, each.epochs) for each in again.trials] == [
        (each.parameters, each.outcome, each.epochs) for each in whole.trials
    ]
    for first, second in zip(whole.trials, again.trials, strict=True):
        assert second.score == first.score
        assert second.loss == pytest.approx(first.loss, rel=1e-4)
    assert again.recipe == whole.recipe
    assert type(again.best.parameters["epochs"]) is int


def test_a_trial_whose_loss_is_not_finite_is_a_bad_one(tiny, colours, monkeypatch):
    from ouzel.finetune import Diverged

    module = sys.modules["ouzel.finetune.search.training"]

    def diverges(base, data, recipe, **more):
        if recipe.learning_rate > 0.5:
            raise Diverged("training: the loss became nan", field="parameters.learning_rate")
        return finetune(base, data, recipe, **more)

    monkeypatch.setattr(module, "finetune", diverges)
    recipe = make_recipe("fine_tune", FAST | {"epochs": 1})
    found = search(tiny, colours, recipe, {"learning_rate": [1e-3, 1.0]}, trials=4, seed=1)
    assert {each.outcome for each in found.trials} >= {DIVERGED}
    assert found.recipe.learning_rate == 1e-3
    assert "the loss became nan" in next(each.reason for each in found.trials if each.outcome == DIVERGED)


def test_the_recipes_own_values_come_first_and_chance_depends_on_the_number_alone():
    recipe = make_recipe("fine_tune", {})
    space = space_of({"learning_rate": (1e-5, 1e-1, "log"), "crop": (0.2, 1.0)})
    first, second = Study(space, recipe, 7).ask(), Study(space, recipe, 8).ask()
    assert first.parameters == second.parameters == {"learning_rate": recipe.learning_rate, "crop": recipe.crop}
    elsewhere = space_of({"learning_rate": (1e-5, 1e-4, "log")})
    assert Study(elsewhere, recipe, 7).ask().parameters == Study(elsewhere, recipe, 7).ask().parameters
    assert Study(elsewhere, recipe, 7).ask().parameters != Study(elsewhere, recipe, 8).ask().parameters
