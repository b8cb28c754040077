"""Recipes in plain values, for the state of a run that another process resumes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ouzel.maximize.recipes import Recipe, make_recipe


def described(recipe: Recipe) -> dict[str, Any]:
    """A recipe in plain values: its name and parameters, of JSON's types. `from_description` reads them back."""
    parameters: dict[str, Any] = {}  # whoever wrote a recipe of another form has only its name told
    if dataclasses.is_dataclass(recipe) and not isinstance(recipe, type):
        parameters = dataclasses.asdict(recipe)
    return {"name": recipe.name, "parameters": {name: _lists(value) for name, value in parameters.items()}}


def from_description(description: Mapping[str, Any]) -> Recipe:
    """The inverse of `described`. Raises InvalidArgument for a recipe or a parameter that is not known any more."""
    return make_recipe(description["name"], {name: _tuples(value) for name, value in description["parameters"].items()})


def _lists(value: Any) -> Any:
    return [_lists(each) for each in value] if isinstance(value, (list, tuple)) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(each) for each in value) if isinstance(value, (list, tuple)) else value
