# Generated from _async/_jobs.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""Jobs of the worker: submitted, found again, listed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

from google.protobuf.message import Message

from ouzel_client._sync._datasets import Datasets
from ouzel_client._sync._job import Job
from ouzel_client._sync._models import Models
from ouzel_client._sync._transport import Transport
from ouzel_client._codec import jobs as wire
from ouzel_client._codec import lineage as repeat
from ouzel_client._codec.message import made
from ouzel_client._types.datasets import Dataset
from ouzel_client._types.jobs import Node, Promotion, State
from ouzel_client.errors import InvalidArgument, NotFound
from ouzel_protos.v1 import job_pb2 as pb

M = TypeVar("M", bound=Message)


class JobOptions(TypedDict, total=False):
    """Options of every job.

    priority: higher runs first, -100 to 100. labels: texts by name, to find it by. max_seconds: the job fails after
    running for so long. request_id: at most 128 characters; the same one again gives the same job; made up if not
    given. timeout: seconds that the call may take, retries included; None is the client's.
    """

    priority: int
    labels: Mapping[str, str]
    max_seconds: float | None
    request_id: str | None
    timeout: float | None


class Jobs:
    """The jobs of the caller."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __repr__(self) -> str:
        return f"{type(self).__name__}(of {self._transport})"

    def maximize(
        self,
        model: str,
        targets: Sequence[Node] | Node = (),
        *,
        logit: int | str | None = None,
        layer: str | None = None,
        channel: int | None = None,
        x: int | None = None,
        y: int | None = None,
        recipe: str = "fourier",
        parameters: Mapping[str, float] | None = None,
        images_per_target: int = 1,
        size: tuple[int, int] | None = None,
        seed: int = 0,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Seek the images that excite nodes of `model` most: `maximize("m", logit="tabby")`.

        targets: ClassLogit, Unit, Channel or Direction, sought together; or one by its parts: logit, a class, label or
        index; layer and channel, and x and y for a single unit. recipe: "pixel", "fourier" or "maco", with its
        parameters by name. size: (height, width) in pixels, None for the model's input. Raises OuzelError for what can
        never work, before there is a job.
        """
        height, width = size or (0, 0)
        spec = made(
            pb.MaximizeSpec,
            model=model,
            targets=wire.targets(targets, logit, layer, channel, (x, y)),
            recipe=recipe,
            parameters=wire.parameters(parameters or {}),
            seed=seed,
            images_per_target=images_per_target,
            height=height,
            width=width,
        )
        return self._create(pb.JobSpec(maximize=spec), options)

    def search_activations(
        self,
        model: str,
        targets: Sequence[Node] | Node = (),
        *,
        logit: int | str | None = None,
        layer: str | None = None,
        channel: int | None = None,
        x: int | None = None,
        y: int | None = None,
        dataset: str = "",
        top_k: int = 9,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Find the images of a data set that excite nodes of `model` most, and the part of each that the node sees.

        targets and its parts: as those of `maximize`. dataset: by the name that the worker's operator gave it; empty
        for the photographs that come with the worker. top_k: images per target.
        """
        spec = made(
            pb.SearchActivationsSpec,
            model=model,
            targets=wire.targets(targets, logit, layer, channel, (x, y)),
            dataset=dataset,
            top_k=top_k,
        )
        return self._create(pb.JobSpec(search_activations=spec), options)

    def finetune(
        self,
        base: str | None = None,
        dataset: str | Dataset | None = None,
        *,
        name: str | None = None,
        recipe: str | None = None,
        promote: Promotion | None = None,
        parameters: Mapping[str, float | bool] | None = None,
        seed: int | None = None,
        max_training_seconds: float | None = None,
        image_size: int | None = None,
        like: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Make `base`, "NAME" or "NAME@VERSION", a classifier of the images of a data set, served as `name`.

        dataset: what `client.datasets.upload` gives, or its id. name: of the new model; one that is there gets its next
        version. recipe: "feature_extractor", "fine_tune", "lp_ft" (the default) or "scratch", with its parameters by
        name. promote: whether callers who name no version get the new one; "if_better" by default.
        max_training_seconds: training ends after that with its best; 0, the default, for no limit. image_size: pixels
        along each edge of the input, 0, the default, as the base has it. seed: 0 by default.
        like: a tuned model, "NAME" or "NAME@VERSION", whose run is repeated: with the same base, data set, recipe,
        parameters, seed and the rest, but for what is given beside it. Each of `parameters` counts by itself; with
        another recipe, none of that run's.
        Raises OuzelError for what can never work, before there is a job: with `like`, also NotFound or
        FailedPrecondition if the data set or the base is gone, or the base has other weights now.
        """
        spec = self._finetune_spec(
            like,
            base=base,
            dataset=dataset,
            name=name,
            recipe=recipe,
            promote=promote,
            parameters=parameters,
            seed=seed,
            max_training_seconds=max_training_seconds,
            image_size=image_size,
        )
        return self._create(spec, options)

    def check_finetune(
        self,
        base: str | None = None,
        dataset: str | Dataset | None = None,
        *,
        name: str | None = None,
        recipe: str | None = None,
        promote: Promotion | None = None,
        parameters: Mapping[str, float | bool] | None = None,
        seed: int | None = None,
        max_training_seconds: float | None = None,
        image_size: int | None = None,
        like: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Mapping[str, Any]:
        """What the worker finds in the images, if it were asked to `finetune` so; there is no job.

        Takes seconds to minutes the first time, and may by default take an hour. The answer has the fields of a
        DatasetReport: usable, problems, warnings, refused, classes, duplicates, images. Raises what `finetune` raises,
        and FailedPrecondition for a data set that was not uploaded.
        """
        spec = self._finetune_spec(
            like,
            base=base,
            dataset=dataset,
            name=name,
            recipe=recipe,
            promote=promote,
            parameters=parameters,
            seed=seed,
            max_training_seconds=max_training_seconds,
            image_size=image_size,
        )
        request = _request(spec, options)
        request.validate_only = True
        timeout = options.get("timeout")
        answer = self._call("CreateJob", request, pb.Job, _CHECK if timeout is None else timeout)
        return wire.report(answer.result)

    def get(self, job: str) -> Job:
        """A job by its id, from any process. Raises NotFound."""
        return Job(self._transport, self._call("GetJob", made(pb.GetJobRequest, id=job), pb.Job))

    def list(
        self, *, states: Sequence[State] = (), kind: str = "", labels: Mapping[str, str] | None = None
    ) -> Iterator[Job]:
        """The caller's jobs, newest first. states: any of these; kind: "maximize", "search_activations" or
        "finetune"; labels: all of these.
        """
        request = made(pb.ListJobsRequest, states=wire.states(states), kind=kind, labels=labels or {}, page_size=100)
        while True:
            page = self._call("ListJobs", request, pb.ListJobsResponse)
            for job in page.jobs:
                yield Job(self._transport, job)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _finetune_spec(self, like: str | None, **arguments: Any) -> pb.JobSpec:
        """arguments: None where nothing was said."""
        if not like:
            return wire.finetune(arguments)
        given = {each: value for each, value in arguments.items() if value not in (None, "")}
        models, name = Models(self._transport), str(like).partition("@")[0]
        asked = repeat.repeated(repeat.version_of(models.list(name), str(like), "like"), given)
        if "base_digest" in asked:
            found = models.list(asked["base"].partition("@")[0])
            try:
                base = repeat.version_of(found, asked["base"], "base")
            except NotFound as error:
                raise NotFound(f"like: the base of {like} is gone: {error}; give a base", field="base") from None
            repeat.check_base(base, asked["base_digest"])
        if "dataset" not in given and "://" not in asked["dataset"]:
            try:
                Datasets(self._transport).get(asked["dataset"])
            except NotFound:
                raise NotFound(
                    f"like: {like} has learnt from the data set {asked['dataset']}, which is gone; give a dataset",
                    field="dataset",
                ) from None
        return wire.finetune(asked)

    def _create(self, spec: pb.JobSpec, options: JobOptions) -> Job:
        return Job(
            self._transport, self._call("CreateJob", _request(spec, options), pb.Job, options.get("timeout"))
        )

    def _call(self, name: str, request: Message, answer: type[M], timeout: float | None = None) -> M:
        return self._transport.call(wire.SERVICE + name, request, answer, timeout)


def _request(spec: pb.JobSpec, options: JobOptions) -> pb.CreateJobRequest:
    request = made(
        pb.CreateJobRequest,
        spec=spec,
        request_id=options.get("request_id") or uuid.uuid4().hex,  # a repeated call is the same job
        priority=options.get("priority", 0),
        labels=options.get("labels", {}),
    )
    seconds = options.get("max_seconds")
    if seconds is not None:
        if not 1 <= seconds <= 30 * 86_400:
            raise InvalidArgument(f"max_seconds: {seconds} is not within 1..2592000", field="max_seconds")
        request.timeout.FromMicroseconds(round(seconds * 1e6))
    return request


_CHECK = 3600.0  # s
