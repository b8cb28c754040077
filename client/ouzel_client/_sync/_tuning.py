# Generated from _async/_tuning.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""The specifications of jobs that tune, as far as the worker must be asked for them."""

from __future__ import annotations

from ouzel_client._sync._datasets import Datasets
from ouzel_client._sync._models import Models
from ouzel_client._sync._transport import Transport
from ouzel_client._codec import jobs as wire
from ouzel_client._codec import lineage as repeat
from ouzel_client._types.datasets import Dataset
from ouzel_client._types.job_options import FINETUNE, REPAIR, FinetuneOptions, RepairOptions, check_names
from ouzel_client.errors import NotFound
from ouzel_protos.v1 import job_pb2 as pb


def finetune_spec(
    transport: Transport, base: str | None, dataset: str | Dataset | None, options: FinetuneOptions
) -> pb.JobSpec:
    """Of `finetune`, whose arguments these are."""
    check_names("finetune", options, FinetuneOptions)
    arguments = {"base": base, "dataset": dataset, **{name: options.get(name) for name in FINETUNE}}
    like = options.get("like")
    if not like:
        return wire.finetune(arguments)
    given = {each: value for each, value in arguments.items() if value not in (None, "")}
    models, name = Models(transport), str(like).partition("@")[0]
    asked = repeat.repeated(repeat.version_of(models.list(name), str(like), "like"), given)
    if "base_digest" in asked:
        versions = models.list(asked["base"].partition("@")[0])
        try:
            model = repeat.version_of(versions, asked["base"], "base")
        except NotFound as error:
            raise NotFound(f"like: the base of {like} is gone: {error}; give a base", field="base") from None
        repeat.check_base(model, asked["base_digest"])
    if "dataset" not in given and "://" not in asked["dataset"]:
        _check_there(transport, str(like), asked["dataset"], "like")
    return wire.finetune(asked)


def repair_spec(
    transport: Transport, model: str, dataset: str | Dataset | None, options: RepairOptions
) -> pb.JobSpec:
    """Of `repair`, whose arguments these are."""
    check_names("repair", options, RepairOptions)
    given = {name: options.get(name) for name in REPAIR if options.get(name) is not None}
    if dataset not in (None, ""):
        given["dataset"] = dataset
    stored = repeat.version_of(Models(transport).list(str(model).partition("@")[0]), str(model), "model")
    asked = repeat.repaired(stored, given)
    if "dataset" not in given:
        _check_there(transport, str(model), asked["dataset"], "model")
    return wire.finetune(asked)


def _check_there(transport: Transport, model: str, dataset: str, field: str) -> None:
    """Raises NotFound if the data set that a model has learnt from is gone."""
    try:
        Datasets(transport).get(dataset)
    except NotFound:
        raise NotFound(
            f"{field}: {model} has learnt from the data set {dataset}, which is gone; give a dataset", field="dataset"
        ) from None
