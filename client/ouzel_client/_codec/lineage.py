"""The run that made a model, once more: the arguments of a fine-tuning, from the lineage of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ouzel_client._types.models import StoredModel
from ouzel_client.errors import FailedPrecondition, NotFound

# What a lineage says of a run, by the argument of `finetune` that it becomes.
_ARGUMENTS = ("dataset", "recipe", "promote", "parameters", "seed", "max_training_seconds", "image_size")


def version_of(versions: Sequence[StoredModel], reference: str, field: str) -> StoredModel:
    """The version of "NAME@VERSION", or the default of "NAME", among the versions of one name. Raises NotFound."""
    name, _, version = reference.partition("@")
    for each in versions:
        if each.name == name and (each.version == version if version else each.is_default):
            return each
    held = ", ".join(f"{each.name}@{each.version}" for each in versions) or "no model of this name"
    raise NotFound(f"{field}: no model {reference!r:.80}; there is {held:.400}", field=field)


def repeated(like: StoredModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the run that made `like`; those in `given` replace them.

    Each of the recipe's parameters is replaced by itself. With another recipe, those of the run are not used.

    Raises:
        FailedPrecondition: No job made the model, or its lineage does not have all that is needed.
    """
    lineage, name = like.lineage, f"{like.name}@{like.version}"
    if "job" not in lineage:
        raise FailedPrecondition(f"like: {name} was made by no job, so that there is nothing to repeat", field="like")
    needed = [each for each in _ARGUMENTS if each not in given]
    if "base" not in given:
        needed += ["base", "base_version", "base_digest"]
    if missing := [each for each in needed if each not in lineage]:
        raise FailedPrecondition(
            f"like: the lineage of {name} does not say {', '.join(missing)}: it was made by an earlier version; give "
            "them yourself, or tune anew",
            field="like",
        )
    arguments = {each: lineage[each] for each in needed if each in _ARGUMENTS} | dict(given)
    if "base" not in given:
        arguments["base"] = f"{lineage['base']}@{lineage['base_version']}"
        arguments["base_digest"] = lineage["base_digest"]
    if "parameters" in given and given.get("recipe", lineage["recipe"]) == lineage["recipe"]:
        arguments["parameters"] = {**lineage.get("parameters", {}), **given["parameters"]}
    elif "recipe" in given and given["recipe"] != lineage["recipe"]:
        arguments["parameters"] = given.get("parameters", {})
    # Numbers of a lineage come as doubles, and a large seed as text.
    arguments |= {each: int(arguments[each]) for each in ("seed", "image_size") if each not in given}
    return {"name": like.name, **arguments}


def check_base(base: StoredModel, digest: str) -> None:
    """Raises FailedPrecondition if the base has other weights than the run began with."""
    if base.digest != digest:
        raise FailedPrecondition(
            f"like: the base {base.name}@{base.version} has other weights now ({base.digest}) than that run began with "
            f"({digest}); give a base",
            field="base",
        )
