"""The recipes as everybody knows them are those of the library."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from ouzel import finetune, maximize
from ouzel_protos import recipes
from ouzel_protos.recipes import Range


def test_those_of_maximization() -> None:
    assert list(recipes.MAXIMIZE) == list(maximize.RECIPES)
    for name, parameters in recipes.MAXIMIZE.items():
        fields = [field.name for field in dataclasses.fields(maximize.RECIPES[name])]
        assert list(parameters) == [each for each in fields if each != "spectrum"]  # which no request can carry
        usual = maximize.make_recipe(name, {})
        assert usual.steps == recipes.MAXIMIZE_STEPS
        given = {key: value for key in parameters if (value := getattr(usual, key)) is not None}
        assert parameters.keys() - given.keys() <= {"unchanged", "views_per_step"}  # which may go by network and device
        assert not any(parameters[key].problem(value) for key, value in given.items())


def test_those_of_fine_tuning() -> None:
    assert list(recipes.FINETUNE) == list(finetune.RECIPES)
    for name, parameters in recipes.FINETUNE.items():
        usual = finetune.make_recipe(name, {})
        assert parameters.keys() <= {field.name for field in dataclasses.fields(usual)}
        assert not any(limit.problem(getattr(usual, key)) for key, limit in parameters.items())


@pytest.mark.parametrize(
    ("allowed", "value", "problem"),
    [
        (Range(int, 1, 5), 5, ""),
        (Range(int, 1, 5), 6, "6 is not within 1..5"),
        (Range(int, 1, 5), 2.5, "2.5 is not an integer"),
        (Range(int, 1, 5), True, "True is not an integer"),
        (Range(float, 0, 0.5), 0, ""),
        (Range(float, 0, 0.5), "x", "'x' is not a number"),
        (Range(float, 0, 0.5), math.nan, "nan is not within 0..0.5"),
        (Range(bool), False, ""),
        (Range(bool), 1, "1 is neither true nor false"),
    ],
)
def test_what_a_parameter_may_be(allowed: Range, value: Any, problem: str) -> None:
    assert allowed.problem(value) == problem
