"""The run that made a model, once more: the arguments of a fine-tuning, from the lineage of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ouzel_client._types.models import StoredModel
from ouzel_client.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel_protos.recipes import EARLY, REPAIRS

# What a lineage says of a run, by the argument of `finetune` that it becomes.
_ARGUMENTS = ("dataset", "recipe", "promote", "parameters", "seed", "max_training_seconds", "image_size")

_GATE = ("accuracy_margin", "reliance_margin", "scenes")


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
    if lineage.get("early") and arguments["recipe"] in EARLY:
        arguments.setdefault("early", True)
    if arguments["promote"] == "if_grounded":
        gate = lineage.get("gate", {})
        arguments = {each: gate[each] for each in _GATE if gate.get(each)} | arguments
    elif arguments.get("recipe") in REPAIRS.values():
        arguments = {each: lineage[each] for each in _GATE[1:] if lineage.get(each)} | arguments
    # Numbers of a lineage come as doubles, and a large seed as text.
    arguments |= {each: int(arguments[each]) for each in ("seed", "image_size") if each not in given}
    return {"name": like.name, **arguments}


def repaired(model: StoredModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a repair of `model`: those in `given`, and else what the model has learnt from.

    If it learns from the same data set again, seed and shares are those of the run that made it: the same images are
    held out.

    Raises:
        InvalidArgument: `layers` is neither "last" nor "all", or nobody knows what the model has learnt from.
    """
    asked, lineage = dict(given), model.lineage
    layers = asked.pop("layers", "last")
    if not isinstance(layers, str) or layers not in REPAIRS:
        raise InvalidArgument(f"layers: {layers!r:.80} is not one of {', '.join(REPAIRS)}", field="layers")
    if "dataset" not in asked and "dataset" not in lineage:
        raise InvalidArgument(
            f"dataset: name images of the classes of {model.name}@{model.version}, with masks; its lineage names none",
            field="dataset",
        )
    dataset = asked.get("dataset", lineage.get("dataset"))
    if getattr(dataset, "id", dataset) == lineage.get("dataset"):
        asked.setdefault("seed", int(lineage.get("seed", 0)))
        shares = {name: lineage.get("parameters", {}).get(name) for name in ("held_out", "validation")}
        own = {name: share for name, share in shares.items() if share is not None}
        asked["parameters"] = {**own, **asked.get("parameters", {})}
    return {
        "name": model.name,
        "promote": "if_grounded",
        **asked,
        "base": f"{model.name}@{model.version}",
        "base_digest": model.digest,
        "dataset": dataset,
        "recipe": REPAIRS[layers],
    }


def check_base(base: StoredModel, digest: str) -> None:
    """Raises FailedPrecondition if the base has other weights than the run began with."""
    if base.digest != digest:
        raise FailedPrecondition(
            f"like: the base {base.name}@{base.version} has other weights now ({base.digest}) than that run began with "
            f"({digest}); give a base",
            field="base",
        )
