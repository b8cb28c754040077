"""Jobs: to messages of the wire, and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from ouzel_client._codec import search
from ouzel_client._codec.message import made, put
from ouzel_client._types.audit_job import audit_result
from ouzel_client._types.early import early_of, measure_of
from ouzel_client._types.grounding import gate_of, repair_of
from ouzel_client._types.job_events import (
    JobEvent,
    LogEvent,
    MetricEvent,
    PreviewEvent,
    Progress,
    ProgressEvent,
    PublicationEvent,
    StateEvent,
)
from ouzel_client._types.job_states import FINAL
from ouzel_client._types.jobs import Artifact, Channel, ClassLogit, Direction, FinetuneResult, JobResult, Node, Unit
from ouzel_client.errors import InvalidArgument, JobCancelled, JobFailed
from ouzel_protos import parameters as codec
from ouzel_protos.parameters import PROMOTIONS, STATES, BadParameter
from ouzel_protos.progress import settled
from ouzel_protos.recipes import FINETUNE_DEFAULT, GATE_LIMITS, WORKERS
from ouzel_protos.search import TRIALS, TRIALS_DEFAULT
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb

SERVICE = "/ouzel.v1.JobService/"
_LIMITS = {**GATE_LIMITS, "workers": WORKERS, "trials": TRIALS}


def targets(
    nodes: Sequence[Node] | Node,
    logit: int | str | None,
    layer: str | None,
    channel: int | None,
    place: tuple[int | None, int | None],
) -> list[pb.Node]:
    """The nodes of a call: a sequence of them, or one by its parts. Raises InvalidArgument."""
    named = [nodes] if isinstance(nodes, (ClassLogit, Unit, Channel, Direction)) else list(nodes)
    if logit is not None:
        named.append(ClassLogit(logit))
    if (layer is None) != (channel is None):
        raise InvalidArgument("layer, channel: give both or neither", field="channel")
    if layer is not None and channel is not None:
        named.append(Channel(layer, channel) if place == (None, None) else Unit(layer, channel, *place))
    elif place != (None, None):
        raise InvalidArgument("x, y: need layer and channel", field="x")
    if not named:
        raise InvalidArgument("targets: name at least one node, e.g. logit='tabby'", field="targets")
    return [_node(node, f"targets[{number}]") for number, node in enumerate(named)]


def parameters(values: Mapping[str, Any], flags: bool = False) -> dict[str, explain_pb2.Parameter]:
    """Numbers by name, and flags where they are allowed. Raises InvalidArgument."""
    encoded = {}
    for name, value in values.items():
        field = f"parameters.{name}"
        flag = flags and isinstance(value, bool)
        if not flag and (isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)):
            raise InvalidArgument(f"{field}: {value!r:.80} is not a number", field=field)
        try:
            encoded[name] = codec.encode(value)
        except BadParameter as error:
            raise InvalidArgument(f"{field}: {error}", field=field) from None
    return encoded


def finetune(arguments: Mapping[str, Any]) -> pb.JobSpec:
    """The specification of a fine-tuning job.

    Args:
        arguments: The arguments of the call; None where an argument was not given.

    Raises:
        InvalidArgument: It names the argument.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for name, hint in (("base", "a model to start from"), ("dataset", "what to learn from"), ("name", "the new model")):
        if given.get(name, "") == "":
            raise InvalidArgument(f"{name}: name {hint}, or with like= a model whose run to repeat", field=name)
    promote = given.pop("promote", "if_better")
    if not isinstance(promote, str) or promote not in PROMOTIONS:
        raise InvalidArgument(f"promote: {promote!r:.80} is not one of {', '.join(PROMOTIONS)}", field="promote")
    values = parameters(given.pop("parameters", {}), flags=True)
    recipe, searched = given.get("recipe") or FINETUNE_DEFAULT, given.pop("search", None)
    if searched is not None:
        given["search"] = search.ranges(searched, recipe, given.setdefault("trials", TRIALS_DEFAULT), values)
    spec = made(pb.FinetuneSpec, promote=PROMOTIONS[promote], parameters=values, recipe=FINETUNE_DEFAULT)
    for field, value in given.items():
        if field == "scenes" and isinstance(value, str):
            raise InvalidArgument(f"scenes: {value!r:.80} is a text; give a list of them", field=field)
        if field in _LIMITS and (problem := _LIMITS[field].problem(value)):  # 0 would mean the default
            raise InvalidArgument(f"{field}: {problem}", field=field)
        put(spec, field, getattr(value, "id", value) if field == "dataset" else value, field)
    return pb.JobSpec(finetune=spec)


def states(names: Sequence[str]) -> list[Any]:
    """The numbers of states. Raises InvalidArgument."""
    for name in names:
        if name not in STATES:
            raise InvalidArgument(f"states: {name!r:.80} is not one of {', '.join(STATES)}", field="states")
    return [STATES[name] for name in names]


def state(number: int) -> Any:
    """The name of a state."""
    return pb.Job.State.Name(number)


def model(job: pb.Job) -> str:
    """The model that a job is about; of a fine-tuning the new one, with its version once there is one."""
    kind = job.spec.WhichOneof("kind")
    if kind is None:
        return ""
    if kind == "audit":
        spec = job.spec.audit
        return spec.model or spec.endpoint or spec.surrogate
    if kind != "finetune":
        return str(getattr(job.spec, kind).model)
    version = summary(job.result).get("version") if job.state == pb.Job.SUCCEEDED else None
    return f"{job.spec.finetune.name}@{version}" if version else job.spec.finetune.name


def time_of(job: pb.Job, field: str) -> datetime | None:
    """A time of a job, or None if it is not set."""
    time: datetime | None = getattr(job, field).ToDatetime(tzinfo=UTC) if job.HasField(field) else None
    return time


def event(message: pb.JobEvent) -> JobEvent:
    """An event, of the class of its kind."""
    common = (message.sequence, message.time.ToDatetime(tzinfo=UTC), message.attempt)
    read = _EVENTS.get(message.WhichOneof("kind") or "")
    return JobEvent(*common) if read is None else read(common, message)  # without one: of a later version


_Common = tuple[int, datetime, int]


def _metric_event(common: _Common, message: pb.JobEvent) -> JobEvent:
    return MetricEvent(*common, message.metric.step, MappingProxyType(dict(sorted(message.metric.values.items()))))


def _preview_event(common: _Common, message: pb.JobEvent) -> JobEvent:
    shown = message.preview
    return PreviewEvent(*common, shown.step, shown.title, shown.media_type, shown.image)


def _log_event(common: _Common, message: pb.JobEvent) -> JobEvent:
    level: Any = pb.Log.Level.Name(message.log.level)
    return LogEvent(*common, level, message.log.message)


def _state_event(common: _Common, message: pb.JobEvent) -> JobEvent:
    change = message.state_change
    return StateEvent(*common, _previous(change), state(change.state), change.reason)


def _publication_event(common: _Common, message: pb.JobEvent) -> JobEvent:
    told = message.publication
    return PublicationEvent(*common, told.model, told.version, told.digest, told.promoted, told.served, told.number)


_EVENTS: Mapping[str, Callable[[_Common, pb.JobEvent], JobEvent]] = {
    "progress": lambda common, message: ProgressEvent(*common, progress(message.progress)),
    "metric": _metric_event,
    "preview": _preview_event,
    "log": _log_event,
    "state_change": _state_event,
    "publication": _publication_event,
    "trial": lambda common, message: search.trial(common, message.trial),
}


def _previous(change: pb.StateChange) -> Any:
    """None of the first event; older workers named a state there that is no more."""
    return state(change.previous) if change.previous in pb.Job.State.values() and change.previous else None


def progress(message: pb.Progress) -> Progress:
    """How far a job is."""
    return Progress(message.step, message.steps, message.phase)


def follow(job: pb.Job, event: pb.JobEvent) -> None:
    """What a change of state tells of the job itself, as the worker would answer then."""
    now = event.state_change.state
    job.state = now
    job.progress.CopyFrom(settled(job.progress, now))
    if now == pb.Job.RUNNING and not job.HasField("start_time"):
        job.start_time.CopyFrom(event.time)
    elif pb.Job.State.Name(now) in FINAL:
        job.end_time.CopyFrom(event.time)
    elif _previous(event.state_change) in FINAL:  # retried
        for gone in ("start_time", "end_time", "error"):
            job.ClearField(gone)


def artifact(message: pb.Artifact) -> Artifact:
    """A file that a job has made."""
    expires = message.url_expire_time.ToDatetime(UTC) if message.HasField("url_expire_time") else None
    return Artifact(
        message.name, message.media_type, message.size, message.sha256, url=message.url or None, url_expires=expires
    )


def summary(message: pb.JobResult) -> Mapping[str, Any]:
    """The figures of a result by name."""
    return MappingProxyType(json_format.MessageToDict(message.summary))


def result(job: pb.Job, pictures: Mapping[str, bytes]) -> JobResult:
    """What a job that SUCCEEDED left behind, as its kind has it."""
    figures = summary(job.result)
    common = (job.id, tuple(map(artifact, job.result.artifacts)), figures, pictures)
    if job.spec.HasField("audit"):
        return audit_result(common)
    if not job.spec.HasField("finetune"):
        return JobResult(*common)
    measure = measure_of(figures)
    return FinetuneResult(
        *common,
        model=figures.get("model", ""),
        version=figures.get("version", ""),
        accuracy=figures.get("accuracy", math.nan),
        interval=(figures.get(f"{measure}_low", math.nan), figures.get(f"{measure}_high", math.nan)),
        balanced_accuracy=figures.get("balanced_accuracy", math.nan),
        promoted=figures.get("promoted", False),
        served=figures.get("served", False),
        notes=tuple(figures.get("notes", ())),
        gate=gate_of(figures),
        repair=repair_of(figures),
        miou=figures.get("miou"),
        pixel_accuracy=figures.get("pixel_accuracy"),
        map=figures.get("map"),
        map50=figures.get("map50"),
        early=early_of(figures),
        search=figures.get("search"),
    )


def report(message: pb.JobResult) -> dict[str, Any]:
    """What a check found. Counts come as texts, as JSON has 64 bits, and leave as numbers."""
    figures = dict(summary(message))
    if "images" in figures:
        figures["images"] = int(figures["images"])
    if "classes" in figures:
        figures["classes"] = {label: int(count) for label, count in figures["classes"].items()}
    return figures


def failure(job: pb.Job) -> JobFailed | JobCancelled:
    """Why a job that has ended did not succeed."""
    if job.state == pb.Job.CANCELLED:
        return JobCancelled(f"{job.id} was cancelled", job=job.id)
    error = job.error
    kind = pb.JobError.Class.Name(error.failure_class)
    return JobFailed(
        f"{job.id} failed ({kind.lower()}): {error.message}",
        field=error.field,
        job=job.id,
        failure_class=kind,
        error_id=error.error_id,
    )


def _node(node: Node, where: str) -> pb.Node:
    try:
        if isinstance(node, ClassLogit):
            named = "label" if isinstance(node.target, str) else "index"
            return pb.Node(logit=made(explain_pb2.ClassRef, **{named: node.target}))
        if isinstance(node, Channel):
            return pb.Node(channel=made(pb.Channel, layer=node.layer, channel=node.channel))
        if isinstance(node, Unit):
            place = {name: value for name, value in (("x", node.x), ("y", node.y)) if value is not None}
            return pb.Node(unit=made(pb.Unit, layer=node.layer, channel=node.channel, **place))
        if isinstance(node, Direction):
            return pb.Node(direction=made(pb.Direction, layer=node.layer, weights=node.weights))
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}.{error}", field=where) from None
    raise InvalidArgument(f"{where}: {node!r:.80} is no ClassLogit, Unit, Channel or Direction", field=where)
