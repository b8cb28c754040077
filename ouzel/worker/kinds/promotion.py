"""Whether a new version becomes the default of its name, and its publication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouzel.errors import NotFound
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.worker.artifacts.patience import patiently
from ouzel.worker.kinds.context import JobContext
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Comparison, Tuned
    from ouzel.finetune.detection import Detected
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


def accuracy_of(tuned: Tuned, served: Comparison | None) -> Figure:
    """The accuracy of a classifier, and that of the present default."""
    value = tuned.test.accuracy
    what = "of the held-out images are right"
    if served is None:
        return Figure(what, value)
    return Figure(what, value, served.name, served.accuracy, served.problem)


def present_default(spec: pb.FinetuneSpec, context: JobContext, publication: int = 1) -> Model | None:
    """The default of the new version's name before that was published; None if there is none.

    Args:
        spec: Of the job.
        context: Of the job.
        publication: Which of the job's versions the new one is: of the second, the first may be the default.
    """
    from ouzel.models.store import ModelStore

    store = ModelStore(*context.environment.model_store)
    mine, reference = own_version(spec, context, publication), spec.name
    gate = None if mine is None else (mine.lineage or {}).get("gate")
    if gate is not None:  # an attempt before this one has published, after the gate compared with this version
        reference = gate["against"]
    try:
        present = store.file(reference) if reference else None
    except NotFound:
        return None
    if present is None or (present.job == context.job and present.publication >= publication):
        return None
    return _loaded(present)


def version_of(reference: str, context: JobContext) -> Model | None:
    """The version NAME@VERSION; None if it is gone."""
    from ouzel.models.store import ModelStore

    try:
        return _loaded(ModelStore(*context.environment.model_store).file(reference)) if reference else None
    except NotFound:
        return None


def _loaded(file: ModelFile) -> Model:
    import torch

    from ouzel import models

    return models.load(file.path, "cuda" if torch.cuda.is_available() else "cpu")


def publish(
    spec: pb.FinetuneSpec,
    context: JobContext,
    base: Model,
    tuned: Tuned | Segmented | Detected,
    figure: Figure,
    *,
    lineage: Mapping[str, Any],
    verdict: GateVerdict | None,
    arch: str = "",
    publication: int = 1,
    after: str = "",
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
        publication: Which of the job's versions this is.
        after: The version that the job has published before; "" without one.

    Returns:
        What the summary says of the new version.
    """
    from ouzel import models
    from ouzel.models.card import Card
    from ouzel.models.store import Entry, ModelStore
    from ouzel.worker.kinds import publishing

    store = ModelStore(*context.environment.model_store)
    wanted = _promoted(spec, context, figure) if verdict is None else _passed(spec, context, verdict, publication)

    def promote() -> bool:
        return wanted and (verdict is None or _unchanged(spec, context, verdict, publication))

    arch = arch or base.arch
    card = Card(spec.name, "1", arch, tuned.labels, tuned.preprocessing, "", lineage=lineage, task=models.task_of(arch))
    state = tuned.network.state_dict()
    context.progress(0, phase="publishing")
    context.check_lease()

    def add() -> Entry:
        return store.publish(
            spec.name, lambda version: (card, state), context.job, publication=publication, after=after
        )

    entry = patiently(add, context.stop)
    served = publishing.serve(context, store, entry, base=f"{base.name}@{base.version}", promote=promote)
    return {
        "model": entry.name,
        "version": entry.version,
        "digest": entry.digest,
        "promoted": is_default(entry.name, entry.version, context),
        "served": served,
    }


def is_default(name: str, version: str, context: JobContext) -> bool:
    """Whether callers who name no version get this one."""
    default = _default_of(name, context)
    return default is not None and default.version == version


def _passed(spec: pb.FinetuneSpec, context: JobContext, verdict: GateVerdict, publication: int) -> bool:
    """Whether the gate was passed, by this attempt or by one before it that got as far as the promotion."""
    context.log(
        f"{'promoted' if verdict.passed else 'not promoted'}: {verdict.reason}",
        pb.Log.INFO if verdict.passed else pb.Log.WARNING,
    )
    return verdict.passed or _default_of(spec.name, context) == own_version(spec, context, publication) is not None


def _unchanged(spec: pb.FinetuneSpec, context: JobContext, verdict: GateVerdict, publication: int) -> bool:
    """Whether the default is the one that the gate compared with, or this job's own of an attempt before this one."""
    now = _default_of(spec.name, context)
    name = "" if now is None else f"{now.name}@{now.version}"
    if name == verdict.against or now == own_version(spec, context, publication):
        return True
    context.log(
        f"not promoted: {name or 'no version'} has become the default meanwhile, and the gate was asked about "
        f"{verdict.against or 'a first version'}",
        pb.Log.WARNING,
    )
    return False


def _default_of(name: str, context: JobContext) -> ModelFile | None:
    store = ModelFiles(*context.environment.model_store)
    files = store.of(name)
    return store.default_of(files) if files else None


def own_version(spec: pb.FinetuneSpec, context: JobContext, publication: int = 1) -> ModelFile | None:
    """The version that an attempt before this one has published as its first or its second."""
    files = ModelFiles(*context.environment.model_store).of(spec.name)
    return next((file for file in files if file.job == context.job and file.publication == publication), None)


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
