"""Fine-tuning: a model of the store becomes a classifier of the images of a data set, and is served.

The recipe "segment" makes a segmentation model, "detect" a detector; `segmentation.py` and `detection.py` run them.

Artifacts: report.html, report.json, predictions.csv (of the test images), curves.png (of recipes that train by
epochs), mistakes/00.png, ... (test images that were taken for something else, the worst first, with what the network
looked at), compared/00-before.png, 00-after.png, ... (of test images, what the base and the tuned network look at);
gate/00-....png, repaired/00-....png, ... (held-out images that backgrounds turn).
Summary: model, version, digest, promoted, served, accuracy, accuracy_low, accuracy_high (95 %), balanced_accuracy and
the other figures of `ouzel.finetune.report`; notes, sentences about what did not go as it was asked for, absent where
all went well; gate, its verdict with all figures, where it was asked; repair, figures of the base and of the new
version, where the base was repaired; early, the version that was published first beside what came after it, where that
was asked for; search, its trials, where there were any. The other figures are those of the version that is named: the
second, or the first if that was better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ouzel.checks import within
from ouzel.errors import InvalidArgument, NotFound
from ouzel.task_names import CLASSIFICATION, DETECTION, SEGMENTATION, Task
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import (
    detection,
    gate_request,
    grounding,
    parameters,
    pinned_model,
    promotion,
    searching,
    segmentation,
    training_data,
)
from ouzel.worker.kinds import early as early_versions
from ouzel.worker.kinds.classifier import Versions
from ouzel.worker.kinds.context import JobContext, JobOutput
from ouzel.worker.kinds.early import Early
from ouzel.worker.kinds.finetune_progress import Told
from ouzel.worker.kinds.work import Work, images, scale
from ouzel.worker.ranks import launcher
from ouzel_protos import parameters as codec
from ouzel_protos.recipes import DETECT, FINETUNE, FINETUNE_DEFAULT, SEGMENT, workers_problem
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Example, Recipe, Tuned

_TASKS: Mapping[str, Task] = {SEGMENT: SEGMENTATION, DETECT: DETECTION}
_LEARNT: Mapping[Task, str] = {CLASSIFICATION: "labels", SEGMENTATION: "classes of pixels", DETECTION: "boxes"}
_LONGEST = 30 * 86_400.0  # s
_EDGE = (32, 1024)
_CACHE_BYTES = 20 * 2**30


def validate(spec: pb.FinetuneSpec, catalogue: Catalogue) -> None:
    """Refuses what can never work: an unknown base or data set, a name that is taken, values out of range."""
    base = catalogue.model(spec.base, "base")
    task = _TASKS.get(spec.recipe, CLASSIFICATION)
    if base.task != task:  # which recipes for pixels and boxes learn on from
        base.need(CLASSIFICATION, f"recipes for {_LEARNT[task]}", "base")
    pinned_model.check_digest(spec.base, base.digest, spec.base_digest, "base_digest")
    parameters_given = _parameters(spec)
    searching.validate(spec, parameters_given)
    if problem := workers_problem(spec.recipe or FINETUNE_DEFAULT, spec.workers or 1, _batch_size(spec)):
        raise InvalidArgument(problem, field="workers")
    catalogue.check_new_name(spec.name, task)
    if not 0 <= spec.seed < 2**63:
        raise InvalidArgument(f"seed: {spec.seed} is negative", field="seed")
    within("max_training_seconds", spec.max_training_seconds, 0, _LONGEST)
    if spec.image_size:
        within("image_size", spec.image_size, *_EDGE)
    if spec.promote not in pb.FinetuneSpec.Promotion.values():
        raise InvalidArgument(f"promote: {spec.promote} is not one that is known", field="promote")
    training_data.check(spec.dataset, catalogue, kind=training_data.kind_of(spec.recipe))
    if spec.recipe == SEGMENT:
        segmentation.validate(spec)
    if spec.recipe == DETECT:
        detection.validate(spec)
    early_versions.validate(spec, parameters_given)
    gate_request.validate(spec, catalogue)


def report(spec: pb.FinetuneSpec, catalogue: Catalogue) -> Mapping[str, Any]:
    """What `validate_only` answers: how the data set looks."""
    return training_data.report(spec.dataset, catalogue, kind=training_data.kind_of(spec.recipe))


def work(spec: pb.FinetuneSpec, catalogue: Catalogue) -> Work | None:
    """Millions of pixels of all images, for each epoch that the request asks for; without any, for the recipe's own.

    Each trial of a search counts as much as the training.
    """
    counted = images(spec.dataset, catalogue)
    if counted is None or spec.max_training_seconds:  # the end of which is not the work's
        return None
    given = _parameters(spec)
    epochs = given.get("epochs", 0) + given.get("frozen_epochs", 0)
    edges = (spec.image_size,) * 2 if spec.image_size else catalogue.model(spec.base, "base").input[1:]
    settings: dict[str, Any] = {"epochs": "given" if epochs else "default"}
    settings |= {name: True for name in ("early",) if getattr(spec, name)}
    settings |= {"gated": True} if spec.promote == pb.FinetuneSpec.IF_GROUNDED else {}
    settings |= {"workers": spec.workers} if spec.workers > 1 else {}
    settings |= {"searched": True} if spec.search else {}
    # Of trials that are stopped early it is less, alike in all searches.
    units = counted * max(epochs, 1) * edges[0] * edges[1] / 1e6 * (1 + searching.trials_of(spec))
    return Work(scale(spec.recipe or FINETUNE_DEFAULT, model=spec.base, catalogue=catalogue, **settings), units)


def run(spec: pb.FinetuneSpec, context: JobContext) -> JobOutput:
    """Tunes, compares with the present default of the name, asks the gate, publishes, and reports."""
    import torch

    from ouzel import models
    from ouzel.finetune import Diverged
    from ouzel.finetune.data import split
    from ouzel.finetune.features import trim
    from ouzel.models.store import ModelStore

    context.progress(0, phase="loading")
    store = ModelStore(*context.environment.model_store)
    file = store.file(spec.base)
    if not file.seen_by(context.owner):  # the name may be somebody else's by now
        raise NotFound(f"base: no model {spec.base!r:.80}", field="base")
    base = models.load(file.path, "cuda" if torch.cuda.is_available() else "cpu")
    pinned_model.check_digest(spec.base, base.digest, spec.base_digest, "base_digest")
    context.progress(0, phase="checking the images")
    if spec.recipe in (SEGMENT, DETECT):
        return (segmentation if spec.recipe == SEGMENT else detection).run(spec, context, base, recipe_of(spec))
    examples = training_data.examples(spec.dataset, context)
    trim(context.environment.cache, _CACHE_BYTES)
    recipe, told = recipe_of(spec), Told(context)
    audits = None
    if gate_request.gated(spec) or gate_request.repairs(spec):
        audits = grounding.Audits(spec, context, split(examples, recipe, spec.seed), told)
        audits.check(promotion.present_default(spec, context), {each.label for each in examples})
    early = Early(spec, context, told) if spec.early else None
    versions = Versions(spec, context, base, audits, early)
    if spec.search:
        versions.found = searching.run(spec, context, base, examples, recipe, told=told)
        recipe = versions.found.recipe
    try:
        tuned = _tuned(versions, examples, recipe, told)
    except Diverged:
        told.keep_best()
        if early is not None:
            early.tell_what_stays()
        raise
    for note in tuned.notes:
        context.log(note, pb.Log.WARNING)
    return versions.last(tuned)


def _tuned(versions: Versions, examples: Sequence[Example], recipe: Recipe, told: Told) -> Tuned:
    """Trains, or goes on with the training of an attempt before this one."""
    from ouzel.finetune import finetune

    spec, context, base = versions.spec, versions.context, versions.base
    options: dict[str, Any] = {
        "seed": spec.seed,
        "max_training_seconds": spec.max_training_seconds,
        "cache": context.environment.cache,
        "on_event": told,
        "resume": told.resumed,
        "batch_scale": context.batch_scale,
    }
    if gate_request.repairs(spec):
        from ouzel.grounding import repair

        return repair(base, examples, recipe, on_scene=told.on_scene, **options)
    options |= {"workers": max(1, spec.workers), "launcher": launcher()}
    given = versions.first if spec.early else None
    return finetune(base, examples, recipe, image_size=spec.image_size, early=given, **options)


def recipe_of(spec: pb.FinetuneSpec) -> Recipe:
    """The recipe of a spec. Raises InvalidArgument."""
    from ouzel.finetune import make_recipe

    return make_recipe(spec.recipe or FINETUNE_DEFAULT, _parameters(spec))


def _batch_size(spec: pb.FinetuneSpec) -> int:
    """Images of a step, if the request says how many; the smallest that a search may try, which is checked by now."""
    given = _parameters(spec).get("batch_size", 0)
    if "batch_size" not in spec.search:
        return int(given)
    tried = spec.search["batch_size"]
    values = [codec.decode(each) for each in tried.choices.values] or [tried.interval.low]
    return int(min(values))


def _parameters(spec: pb.FinetuneSpec) -> dict[str, Any]:
    return parameters.checked(spec.recipe or FINETUNE_DEFAULT, spec.parameters, FINETUNE)
