"""Whether a new version becomes the default of its name, and its publication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouzel.errors import NotFound
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.worker.kinds.context import JobContext
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Report, Tuned
    from ouzel.finetune.segmentation import Segmented
    from ouzel.grounding import GateVerdict
    from ouzel.models import Model


@dataclass(frozen=True)
class Figure:
    """By which a new version is better than the present default, or not.

    Attributes:
        what: The figure in words, as in "... of the held-out images are right".
        value: Of the new version, in [0, 1].
        served: NAME@VERSION of the present default; "" without one.
        served_value: Of the present default, on the same images; None if it cannot be compared.
        problem: Why it cannot.
    """

    what: str
    value: float
    served: str = ""
    served_value: float | None = None
    problem: str = ""


def accuracy_of(report: Report) -> Figure:
    """The accuracy of a classifier, and that of the present default."""
    value, served = report.tuned.test.accuracy, report.served
    what = "of the held-out images are right"
    if served is None:
        return Figure(what, value)
    return Figure(what, value, served.name, served.accuracy, served.problem)


def present_default(spec: pb.FinetuneSpec, context: JobContext) -> Model | None:
    """The default of the new version's name before this job; None if there is none."""
    import torch

    from ouzel import models
    from ouzel.models.store import ModelStore

    store = ModelStore(context.environment.models)
    mine, reference = _mine(spec, context, store), spec.name
    gate = None if mine is None else (mine.lineage or {}).get("gate")
    if gate is not None:  # an attempt before this one has published, after the gate compared with this version
        reference = gate["against"]
    try:
        present = store.file(reference) if reference else None
    except NotFound:
        return None
    if present is None or present.job == context.job:
        return None
    return models.load(present.path, "cuda" if torch.cuda.is_available() else "cpu")


def publish(
    spec: pb.FinetuneSpec,
    context: JobContext,
    base: Model,
    tuned: Tuned | Segmented,
    figure: Figure,
    *,
    lineage: Mapping[str, Any],
    verdict: GateVerdict | None,
    arch: str = "",
) -> dict[str, Any]:
    """Publishes in the model store and, if there is one, the model server: once, however often the job is started.

    Args:
        spec: Of the job.
        context: Of the job.
        base: The model that was tuned.
        tuned: What came of it.
        figure: What it is compared by with the present default.
        lineage: Of the new version.
        verdict: Of the gate; None if it was not asked.
        arch: Of the new version; "" is that of the base.

    Returns:
        What the summary says of the new version.
    """
    from ouzel import models
    from ouzel.models.card import Card
    from ouzel.models.store import ModelStore
    from ouzel.worker.kinds import publishing

    store = ModelStore(context.environment.models)
    wanted = _promoted(spec, context, figure) if verdict is None else _passed(spec, context, verdict, store)

    def promote() -> bool:
        return wanted and (verdict is None or _unchanged(spec, context, verdict, store))

    arch = arch or base.arch
    card = Card(spec.name, "1", arch, tuned.labels, tuned.preprocessing, "", lineage=lineage, task=models.task_of(arch))
    state = tuned.network.state_dict()
    context.progress(0, phase="publishing")
    context.check_lease()
    entry = store.publish(spec.name, lambda version: (card, state), context.job)
    served = publishing.serve(context, store, entry, base=f"{base.name}@{base.version}", promote=promote)
    default = store.default_of(store.of(entry.name))
    return {
        "model": entry.name,
        "version": entry.version,
        "digest": entry.digest,
        "promoted": default is not None and default.version == entry.version,
        "served": served,
    }


def _passed(spec: pb.FinetuneSpec, context: JobContext, verdict: GateVerdict, store: ModelFiles) -> bool:
    """Whether the gate was passed, by this attempt or by one before it that got as far as the promotion."""
    context.log(
        f"{'promoted' if verdict.passed else 'not promoted'}: {verdict.reason}",
        pb.Log.INFO if verdict.passed else pb.Log.WARNING,
    )
    return verdict.passed or _default_of(spec, store) == _mine(spec, context, store) is not None


def _unchanged(spec: pb.FinetuneSpec, context: JobContext, verdict: GateVerdict, store: ModelFiles) -> bool:
    """Whether the default is the one that the gate compared with, or this job's own of an attempt before this one."""
    now = _default_of(spec, store)
    name = "" if now is None else f"{now.name}@{now.version}"
    if name == verdict.against or now == _mine(spec, context, store):
        return True
    context.log(
        f"not promoted: {name or 'no version'} has become the default meanwhile, and the gate was asked about "
        f"{verdict.against or 'a first version'}",
        pb.Log.WARNING,
    )
    return False


def _default_of(spec: pb.FinetuneSpec, store: ModelFiles) -> ModelFile | None:
    files = store.of(spec.name)
    return store.default_of(files) if files else None


def _mine(spec: pb.FinetuneSpec, context: JobContext, store: ModelFiles) -> ModelFile | None:
    """The version that an attempt before this one has published."""
    return next((file for file in store.of(spec.name) if file.job == context.job), None)


def _promoted(spec: pb.FinetuneSpec, context: JobContext, figure: Figure) -> bool:
    """Whether the new version is to be the default, where no gate decides."""
    kinds = pb.FinetuneSpec
    if spec.promote in (kinds.PROMOTION_UNSPECIFIED, kinds.NEVER):
        return False
    if spec.promote == kinds.ALWAYS or not figure.served:  # the first of its name
        return True
    if figure.served_value is None:
        context.log(f"not promoted: {figure.served} is the default, and {figure.problem}", pb.Log.WARNING)
        return False
    better = figure.value > figure.served_value
    context.log(
        f"{'promoted' if better else 'not promoted'}: {100 * figure.value:.2f} % {figure.what}, of the present default "
        f"{100 * figure.served_value:.2f} %"
    )
    return better
