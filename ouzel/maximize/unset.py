"""Parameters that a recipe leaves unset: they go by the network, the device, or the run that is resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ouzel.maximize.engine.objective import MOST_ROWS
from ouzel.maximize.inputs import Inputs
from ouzel.maximize.memory import fitting
from ouzel.maximize.recipes import FourierRecipe, Recipe

IN_ONE_PLACE = 0.4  # share of unchanged views for networks that know things in one place only
MOST_VIEWS = 4


def resolved(
    recipe: Recipe,
    inputs: Inputs,
    count: int,
    *,
    memory_bytes: int | None,
    pass_scale: float,
    state: Mapping[str, Any] | None,
) -> Recipe:
    """The recipe with numbers for all that it leaves unset.

    Args:
        recipe: As the caller wants it.
        inputs: What the network takes, and where it is.
        count: Images.
        memory_bytes: As of `maximize`, like the next two.
        pass_scale: Of the rows that go through the network at a time.
        state: Of the run that is resumed, whose views per step are kept wherever it goes on.
    """
    if isinstance(recipe, FourierRecipe) and recipe.unchanged is None:
        recipe = dataclasses.replace(recipe, unchanged=0.0 if inputs.takes_other_sizes() else IN_ONE_PLACE)
    if isinstance(recipe, FourierRecipe) and recipe.views_per_step is None:
        if state is not None:
            views = state.get("views_per_step", 1)
        else:
            device = inputs.device.type
            fits = fitting(inputs.network, inputs.example, count, memory_bytes)
            views = views_with_room(device, count, int(MOST_ROWS[device] * pass_scale), fits)
        recipe = dataclasses.replace(recipe, views_per_step=views)
    return recipe


def views_with_room(device: str, count: int, rows_per_pass: int, fits: Callable[[int], bool]) -> int:
    """How many views of each image cost about as much time as one.

    On a CPU that is one, as time goes by the rows. A GPU takes more rows at a time than there often are.

    Args:
        device: Its type.
        count: Images.
        rows_per_pass: The most rows that go through the network at a time.
        fits: Whether there is memory for so many views.
    """
    views = 1 if device == "cpu" else max(1, min(MOST_VIEWS, rows_per_pass // count))
    while views > 1 and not fits(views):
        views -= 1
    return views
