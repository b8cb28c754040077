"""Fine-tuning: a model of the store becomes a classifier of the images of a data set, and is served.

Artifacts: report.html, report.json, predictions.csv (of the test images), curves.png (of recipes that train by
epochs), mistakes/00.png, ... (test images that were taken for something else, the worst first, with what the network
looked at), compared/00-before.png, 00-after.png, ... (of test images, what the base and the tuned network look at);
gate/00-....png, repaired/00-....png, ... (held-out images that backgrounds turn).
Summary: model, version, digest, promoted, served, accuracy, accuracy_low, accuracy_high (95 %), balanced_accuracy and
the other figures of `ouzel.finetune.report`; notes, sentences about what did not go as it was asked for, absent where
all went well; gate, its verdict with all figures, where it was asked; repair, figures of the base and of the new
version, where the base was repaired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ouzel.checks import within
from ouzel.errors import InvalidArgument, NotFound
from ouzel.task_names import CLASSIFICATION
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import grounding, parameters, pinned_model, promotion, training_data
from ouzel.worker.kinds import lineage as lineages
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput, proof_files
from ouzel.worker.kinds.finetune_progress import Told
from ouzel_protos.recipes import FINETUNE, FINETUNE_DEFAULT
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Example, Recipe, Tuned
    from ouzel.models import Model as LoadedModel

_LONGEST = 30 * 86_400.0  # s
_EDGE = (32, 1024)
_CACHE_BYTES = 20 * 2**30
_LONG = ("history", "classes")
_GROWING, _FEW = ("labels", "confusion"), 20  # classes


def validate(spec: pb.FinetuneSpec, catalogue: Catalogue) -> None:
    """Refuses what can never work: an unknown base or data set, a name that is taken, values out of range."""
    base = catalogue.model(spec.base, "base")
    base.need(CLASSIFICATION, "recipes", "base")
    pinned_model.check_digest(spec.base, base.digest, spec.base_digest, "base_digest")
    _parameters(spec)
    catalogue.check_new_name(spec.name)
    if not 0 <= spec.seed < 2**63:
        raise InvalidArgument(f"seed: {spec.seed} is negative", field="seed")
    within("max_training_seconds", spec.max_training_seconds, 0, _LONGEST)
    if spec.image_size:
        within("image_size", spec.image_size, *_EDGE)
    if spec.promote not in pb.FinetuneSpec.Promotion.values():
        raise InvalidArgument(f"promote: {spec.promote} is not one that is known", field="promote")
    training_data.check(spec.dataset, catalogue)
    grounding.validate(spec, catalogue)


def report(spec: pb.FinetuneSpec, catalogue: Catalogue) -> Mapping[str, Any]:
    """What `validate_only` answers: how the data set looks."""
    return training_data.report(spec.dataset, catalogue)


def run(spec: pb.FinetuneSpec, context: JobContext) -> JobOutput:
    """Tunes, compares with the present default of the name, asks the gate, publishes, and reports."""
    import torch

    from ouzel import models
    from ouzel.finetune import Diverged, compare
    from ouzel.finetune import report as reports
    from ouzel.finetune.data import split
    from ouzel.finetune.features import trim
    from ouzel.models.store import ModelStore

    context.progress(0, phase="loading")
    store = ModelStore(context.environment.models)
    file = store.file(spec.base)
    if not file.seen_by(context.owner):  # the name may be somebody else's by now
        raise NotFound(f"base: no model {spec.base!r:.80}", field="base")
    base = models.load(file.path, "cuda" if torch.cuda.is_available() else "cpu")
    pinned_model.check_digest(spec.base, base.digest, spec.base_digest, "base_digest")
    context.progress(0, phase="checking the images")
    examples = training_data.examples(spec.dataset, context)
    trim(context.environment.cache, _CACHE_BYTES)
    recipe, told = recipe_of(spec), Told(context)
    audits = None
    if grounding.gated(spec) or grounding.repairs(spec):
        audits = grounding.Audits(spec, context, split(examples, recipe, spec.seed), told)
        audits.check(promotion.present_default(spec, context), {each.label for each in examples})
    try:
        tuned = _tuned(spec, context, base, examples, told)
    except Diverged:
        told.keep_best()
        raise
    present = promotion.present_default(spec, context)
    served = None
    if present is not None:
        served = compare(present, tuned, lambda done, of: context.progress(done, of, phase="comparing"))
    grounded = None if audits is None else audits.run(base, tuned, served, present)
    context.progress(0, phase="reporting")
    tuning_report = reports.make_report(base, tuned, served)
    for note in tuned.notes:
        context.log(note, pb.Log.WARNING)
    lineage = lineages.lineage(spec, context, base, tuned)
    if grounded is not None:
        lineage |= grounded.lineage()
    sections = () if grounded is None else grounding.sections(grounded)
    if context.stop_wanted():
        raise JobInterrupted
    verdict = None if grounded is None else grounded.verdict
    entry = None if grounded is None or verdict is None else context.record("gate", grounded.facts(spec))
    published = promotion.publish(spec, context, base, tuning_report, lineage=lineage, verdict=verdict)
    written = reports.files(tuning_report, f"{published['model']}@{published['version']}", lineage, sections)
    made = [File(name, media_type, content) for name, (media_type, content) in written.items()]
    figures = {key: value for each in sections for key, value in each.figures.items()}
    return JobOutput(made + proof_files(entry), {**_short(reports.summary(tuning_report)), **figures, **published})


def _tuned(
    spec: pb.FinetuneSpec, context: JobContext, base: LoadedModel, examples: Sequence[Example], told: Told
) -> Tuned:
    """Trains, or goes on with the training of an attempt before this one."""
    from ouzel.finetune import finetune

    options: dict[str, Any] = {
        "seed": spec.seed,
        "max_training_seconds": spec.max_training_seconds,
        "cache": context.environment.cache,
        "on_event": told,
        "resume": told.resumed,
        "batch_scale": context.batch_scale,
    }
    if grounding.repairs(spec):
        from ouzel.grounding import repair

        return repair(base, examples, recipe_of(spec), on_scene=told.on_scene, **options)
    return finetune(base, examples, recipe_of(spec), image_size=spec.image_size, **options)


def _short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Without what grows with classes and epochs, where there are many: lists of jobs carry their results."""
    few = len(summary["labels"]) <= _FEW
    return {key: value for key, value in summary.items() if key not in _LONG and (few or key not in _GROWING)}


def recipe_of(spec: pb.FinetuneSpec) -> Recipe:
    """The recipe of a spec. Raises InvalidArgument."""
    from ouzel.finetune import make_recipe

    return make_recipe(spec.recipe or FINETUNE_DEFAULT, _parameters(spec))


def _parameters(spec: pb.FinetuneSpec) -> dict[str, Any]:
    return parameters.checked(spec.recipe or FINETUNE_DEFAULT, spec.parameters, FINETUNE)
