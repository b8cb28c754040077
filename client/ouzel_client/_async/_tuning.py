"""The specifications of jobs that tune, as far as the worker must be asked for them."""

from __future__ import annotations

from ouzel_client._async._datasets import AsyncDatasets
from ouzel_client._async._models import AsyncModels
from ouzel_client._async._transport import AsyncTransport
from ouzel_client._codec import jobs as wire
from ouzel_client._codec import lineage as repeat
from ouzel_client._types.datasets import Dataset
from ouzel_client._types.job_options import FINETUNE, REPAIR, FinetuneOptions, RepairOptions, check_names
from ouzel_client.errors import NotFound
from ouzel_protos.v1 import job_pb2 as pb


async def finetune_spec(
    transport: AsyncTransport, base: str | None, dataset: str | Dataset | None, options: FinetuneOptions
) -> pb.JobSpec:
    """Of `finetune`, whose arguments these are."""
    check_names("finetune", options, FinetuneOptions)
    arguments = {"base": base, "dataset": dataset, **{name: options.get(name) for name in FINETUNE}}
    like = options.get("like")
    if not like:
        return wire.finetune(arguments)
    given = {each: value for each, value in arguments.items() if value not in (None, "")}
    models, name = AsyncModels(transport), str(like).partition("@")[0]
    asked = repeat.repeated(repeat.version_of(await models.list(name), str(like), "like"), given)
    if "base_digest" in asked:
        versions = await models.list(asked["base"].partition("@")[0])
        try:
            model = repeat.version_of(versions, asked["base"], "base")
        except NotFound as error:
            raise NotFound(f"like: the base of {like} is gone: {error}; give a base", field="base") from None
        repeat.check_base(model, asked["base_digest"])
    if "dataset" not in given and "://" not in asked["dataset"]:
        await _check_there(transport, str(like), asked["dataset"], "like")
    return wire.finetune(asked)


async def repair_spec(
    transport: AsyncTransport, model: str, dataset: str | Dataset | None, options: RepairOptions
) -> pb.JobSpec:
    """Of `repair`, whose arguments these are."""
    check_names("repair", options, RepairOptions)
    given = {name: options.get(name) for name in REPAIR if options.get(name) is not None}
    if dataset not in (None, ""):
        given["dataset"] = dataset
    stored = repeat.version_of(await AsyncModels(transport).list(str(model).partition("@")[0]), str(model), "model")
    asked = repeat.repaired(stored, given)
    if "dataset" not in given:
        await _check_there(transport, str(model), asked["dataset"], "model")
    return wire.finetune(asked)


async def _check_there(transport: AsyncTransport, model: str, dataset: str, field: str) -> None:
    """Raises NotFound if the data set that a model has learnt from is gone."""
    try:
        await AsyncDatasets(transport).get(dataset)
    except NotFound:
        raise NotFound(
            f"{field}: {model} has learnt from the data set {dataset}, which is gone; give a dataset", field="dataset"
        ) from None
