"""Whether a training goes on with what an earlier attempt has saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ouzel.finetune.recipes import Recipe
from ouzel.models import Model


def origin(base: Model, recipe: Recipe) -> dict[str, Any]:
    """What a state says of the training that it belongs to, in values of JSON's types."""
    return {"base": base.digest, "recipe": dataclasses.asdict(recipe)}


def resumed(state: Mapping[str, Any] | None, base: Model, recipe: Recipe) -> Mapping[str, Any] | None:
    """The state, if it belongs to a training of this base by this recipe; else None, and the training begins anew.

    An Ouzel that was updated in between may have other defaults. To go on with these would give a network of neither,
    and its lineage would repeat another one.
    """
    own = origin(base, recipe)
    return state if state is not None and all(state.get(name) == value for name, value in own.items()) else None
