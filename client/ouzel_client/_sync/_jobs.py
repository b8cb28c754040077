# Generated from _async/_jobs.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""The jobs of the worker: submit, find and list them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from google.protobuf.message import Message

from ouzel_client._sync._job import Job
from ouzel_client._sync._transport import Transport
from ouzel_client._sync._tuning import finetune_spec, repair_spec
from ouzel_client._codec import jobs as wire
from ouzel_client._codec.audit_job import audit
from ouzel_client._codec.message import made
from ouzel_client._codec.usage import usage as read_usage
from ouzel_client._types.audit_job import AUDIT, DatasetAuditOptions
from ouzel_client._types.datasets import Dataset
from ouzel_client._types.job_options import FinetuneOptions, JobOptions, RepairOptions, check_names
from ouzel_client._types.job_states import State
from ouzel_client._types.jobs import Node
from ouzel_client._types.usage import Usage
from ouzel_client.errors import InvalidArgument
from ouzel_protos.limits import out_of_range
from ouzel_protos.v1 import job_pb2 as pb

M = TypeVar("M", bound=Message)

_CHECK = 3600.0  # s
_LONGEST = 30 * 86_400  # s


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
        judge: str = "",
        dataset: str | Dataset = "",
        path: bool = False,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Seek the images that excite nodes of a model most: `maximize("m", logit="tabby")`.

        Args:
            model: "NAME" or "NAME@VERSION".
            targets: ClassLogit, Unit, Channel or Direction, or several of them, which are sought together.
            logit: Instead of targets, the label or the index of a class.
            layer: Instead of targets, the layer of a channel or a unit.
            channel: The index of the channel in that layer.
            x: For a single unit, its column from the left.
            y: For a single unit, its row from the top.
            recipe: "pixel", "fourier" or "maco".
            parameters: Parameters of the recipe by name.
            images_per_target: How many images to make for each target.
            size: (height, width) of the images in pixels, None for the size of the model's input.
            seed: Of the first images.
            judge: A second model, "NAME" or "NAME@VERSION", that says what it takes the images of classes for. It knows
                the classes by their labels. Empty for none.
            dataset: Photographs to compare with: the name that the worker's operator gave them, or what
                `client.datasets.upload` returns, or its id. Empty for those that come with the worker.
            path: Whether to tell if images of classes take the path of photographs through the network. Needs a data
                set with photographs of these classes, and of another.
            **options: See `JobOptions`.

        Raises:
            OuzelError: The request can never work; there is no job then.
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
            judge=judge,
            dataset=dataset.id if isinstance(dataset, Dataset) else dataset,
            path=path,
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
        """Find the images of a data set that excite nodes of a model most, and the part of each that the node sees.

        Args:
            model: "NAME" or "NAME@VERSION".
            targets: As those of `maximize`, like logit, layer, channel, x and y.
            logit: See `maximize`.
            layer: See `maximize`.
            channel: See `maximize`.
            x: See `maximize`.
            y: See `maximize`.
            dataset: The name that the worker's operator gave it. Empty for the photographs that come with the worker.
            top_k: How many images to find for each target.
            **options: See `JobOptions`.

        Raises:
            OuzelError: The request can never work; there is no job then.
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
        self, base: str | None = None, dataset: str | Dataset | None = None, **options: Unpack[FinetuneOptions]
    ) -> Job:
        """Train a classifier of the images of a data set from a model, and serve it.

        `finetune("efficientnet-lite0", dataset, name="pets")`, or `finetune(like="pets@1", seed=1)`.

        Args:
            base: The model to start from, "NAME" or "NAME@VERSION". Needed unless `like` is given.
            dataset: What `client.datasets.upload` returns, or its id. Needed unless `like` is given.
            **options: See `FinetuneOptions`; `name` is needed unless `like` is given.

        Raises:
            OuzelError: The request can never work; there is no job then.
            NotFound: With `like`, the data set or the base of the run is gone.
            FailedPrecondition: With `like`, the base has other weights now.
        """
        return self._create(finetune_spec(self._transport, base, dataset, options), options)

    def check_finetune(
        self, base: str | None = None, dataset: str | Dataset | None = None, **options: Unpack[FinetuneOptions]
    ) -> Mapping[str, Any]:
        """What the worker finds in the images for the same call of `finetune`; there is no job.

        Takes seconds to minutes the first time; its default timeout is an hour.

        Args:
            base: See `finetune`.
            dataset: See `finetune`.
            **options: See `FinetuneOptions`.

        Returns:
            The fields of a DatasetReport: usable, problems, warnings, refused, classes, duplicates, images.

        Raises:
            FailedPrecondition: The data set was not uploaded.
            OuzelError: What `finetune` raises.
        """
        request = _request(finetune_spec(self._transport, base, dataset, options), options)
        request.validate_only = True
        timeout = options.get("timeout")
        answer = self._call("CreateJob", request, pb.Job, _CHECK if timeout is None else timeout)
        return wire.report(answer.result)

    def repair(
        self, model: str, dataset: str | Dataset | None = None, **options: Unpack[RepairOptions]
    ) -> Job:
        """Train a model that goes by backgrounds on its objects before other backgrounds, and serve what comes of it.

        `repair("pets", accuracy_margin=0.05)`. The new version becomes the default only if the gate passes it.

        Args:
            model: The model to repair, "NAME" or "NAME@VERSION".
            dataset: What `client.datasets.upload` returns, or its id: images of the model's classes, with masks or
                boxes. None takes those that the model has learnt from, divided as they were then.
            **options: See `RepairOptions`.

        Raises:
            OuzelError: The request can never work; there is no job then.
        """
        return self._create(repair_spec(self._transport, model, dataset, options), options)

    def audit(self, dataset: str | Dataset, **options: Unpack[DatasetAuditOptions]) -> Job:
        """Audit the predictions on a data set: do they rest on the objects, or on what is behind them?

        `audit(dataset, model="pets@2")`, or `audit(dataset, endpoint="their-model")`.

        Args:
            dataset: What `client.datasets.upload` returns, or its id. Images with a mask or boxes count for the
                verdict.
            **options: See `DatasetAuditOptions`. A model, an endpoint, or recorded predictions with a surrogate are
                needed.

        Raises:
            OuzelError: The request can never work; there is no job then.
        """
        check_names("audit", options, DatasetAuditOptions)
        spec = audit(dataset, {name: options.get(name) for name in AUDIT})
        return self._create(spec, options)

    def get(self, job: str) -> Job:
        """A job by its id, from any process.

        Raises:
            NotFound: There is no such job.
        """
        return Job(self._transport, self._call("GetJob", made(pb.GetJobRequest, id=job), pb.Job))

    def list(
        self, *, states: Sequence[State] = (), kind: str = "", labels: Mapping[str, str] | None = None
    ) -> Iterator[Job]:
        """The caller's jobs, newest first.

        Args:
            states: Only jobs in one of these.
            kind: Only "maximize", "search_activations", "finetune" or "audit".
            labels: Only jobs with all of these.
        """
        request = made(pb.ListJobsRequest, states=wire.states(states), kind=kind, labels=labels or {}, page_size=100)
        while True:
            page = self._call("ListJobs", request, pb.ListJobsResponse)
            for job in page.jobs:
                yield Job(self._transport, job)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def usage(self, days: int = 30) -> Usage:
        """What the caller has used: seconds of running by day and kind, jobs that ended, bytes stored, and the quotas.

        Args:
            days: UTC days, with today, 1 to 366.
        """
        if problem := out_of_range(days, 1, 366):
            raise InvalidArgument(f"days: {problem}", field="days")
        return read_usage(self._call("GetUsage", made(pb.GetUsageRequest, days=days), pb.Usage))

    def _create(self, spec: pb.JobSpec, options: JobOptions) -> Job:
        request = _request(spec, options)
        return Job(self._transport, self._call("CreateJob", request, pb.Job, options.get("timeout")))

    def _call(self, name: str, request: Message, answer: type[M], timeout: float | None = None) -> M:
        return self._transport.call(wire.SERVICE + name, request, answer, timeout)


def _request(spec: pb.JobSpec, options: JobOptions) -> pb.CreateJobRequest:
    kind = spec.WhichOneof("kind") or ""
    if kind not in ("finetune", "audit"):  # they have options of their own, and have checked them
        check_names(kind, options, JobOptions)
    spec.notify = options.get("notify", "")
    request = made(
        pb.CreateJobRequest,
        spec=spec,
        request_id=options.get("request_id") or uuid.uuid4().hex,  # a repeated call is the same job
        priority=options.get("priority", 0),
        labels=options.get("labels", {}),
    )
    for name, field in (("max_duration", request.max_duration), ("max_cost", request.spec.max_cost)):
        seconds: Any = options.get(name)
        if seconds is not None:
            if problem := out_of_range(seconds, 1, _LONGEST):
                raise InvalidArgument(f"{name}: {problem}", field=name)
            field.FromMicroseconds(round(seconds * 1e6))
    return request
