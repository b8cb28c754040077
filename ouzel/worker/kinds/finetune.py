"""Fine-tuning: a model of the store becomes a classifier of the images of a data set, and is served.

Artifacts: report.html, report.json, predictions.csv (of the test images), curves.png (of recipes that train by
epochs), mistakes/00.png, ... (test images that were taken for something else, the worst first, with what the network
looked at), compared/00-before.png, 00-after.png, ... (of test images, what the base and the tuned network look at).
Summary: model, version, digest, promoted, served, accuracy, accuracy_low, accuracy_high (95 %), balanced_accuracy and
the other figures of `ouzel.finetune.report`; notes, sentences about what did not go as it was asked for, absent where
all went well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ouzel.checks import within
from ouzel.errors import InvalidArgument, NotFound
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import lineage as lineages
from ouzel.worker.kinds import parameters, pinned_model, training_data
from ouzel.worker.kinds.context import File, JobContext, JobInterrupted, JobOutput
from ouzel_protos.recipes import FINETUNE, FINETUNE_DEFAULT
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Comparison, Event, Recipe, Report, Tuned
    from ouzel.models import Model as LoadedModel

_LONGEST = 30 * 86_400.0  # s
_EDGE = (32, 1024)
_CACHE_BYTES = 20 * 2**30
_LONG = ("history", "classes")
_GROWING, _FEW = ("labels", "confusion"), 20  # classes
_SAVE_SHARE = 20  # a checkpoint may cost a twentieth of the time


def validate(spec: pb.FinetuneSpec, catalogue: Catalogue) -> None:
    """Refuses what can never work: an unknown base or data set, a name that is taken, values out of range."""
    base = catalogue.model(spec.base, "base")
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


def report(spec: pb.FinetuneSpec, catalogue: Catalogue) -> Mapping[str, Any]:
    """What `validate_only` answers: how the data set looks."""
    return training_data.report(spec.dataset, catalogue)


def run(spec: pb.FinetuneSpec, context: JobContext) -> JobOutput:
    """Tunes, compares with the present default of the name, publishes, and reports."""
    import torch

    from ouzel import models
    from ouzel.finetune import Diverged, finetune
    from ouzel.finetune import report as reports
    from ouzel.finetune.features import trim
    from ouzel.models.store import ModelStore
    from ouzel.worker.kinds import checkpoint

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
    told = _Told(context)
    try:
        tuned = finetune(
            base,
            examples,
            recipe_of(spec),
            seed=spec.seed,
            image_size=spec.image_size,
            max_training_seconds=spec.max_training_seconds,
            cache=context.environment.cache,
            on_event=told,
            resume=None if context.checkpoint is None else checkpoint.read(context.checkpoint),
            batch_scale=context.batch_scale,
        )
    except Diverged:
        told.keep_best()
        raise
    served = _served(spec, context, tuned)
    context.progress(0, phase="reporting")
    tuning_report = reports.make_report(base, tuned, served)
    for note in tuned.notes:
        context.log(note, pb.Log.WARNING)
    lineage = lineages.lineage(spec, context, base, tuned)
    if context.stop_wanted():
        raise JobInterrupted
    published = _publish(spec, context, base, tuning_report, lineage)
    written = reports.files(tuning_report, f"{published['model']}@{published['version']}", lineage)
    files = [File(name, media_type, content) for name, (media_type, content) in written.items()]
    return JobOutput(files, {**_short(reports.summary(tuning_report)), **published})


def _short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Without what grows with classes and epochs, where there are many: lists of jobs carry their results."""
    few = len(summary["labels"]) <= _FEW
    return {key: value for key, value in summary.items() if key not in _LONG and (few or key not in _GROWING)}


class _Told:
    """Hands the library's events on, saves, and raises JobInterrupted when that is wanted."""

    def __init__(self, context: JobContext) -> None:
        self._work = context
        self._state: Callable[[], dict[str, Any]] | None = None
        self._saving = 0.0  # seconds that the last checkpoint took
        self._saved = time.monotonic()

    def __call__(self, event: Event) -> None:
        context = self._work
        context.progress(event.step, event.steps, _PHASES[event.phase], event.metrics)
        if event.phase == "validating":  # to stop here would lose an epoch
            return
        stop = context.stop_wanted()
        self._state = event.state or self._state
        due = context.save_wanted() and time.monotonic() - self._saved >= _SAVE_SHARE * self._saving
        # The head is a result already, and the last step would be a pity to lose. One that an earlier attempt has saved
        # is no news: were it saved again, a job could fail behind it for ever.
        due |= event.step == event.steps and not (event.phase == "head" and context.checkpoint)
        if event.state is not None and (stop or due):
            begun = time.monotonic()
            self.keep_best()
            self._saved = time.monotonic()
            self._saving = self._saved - begun
        if stop:
            raise JobInterrupted

    def keep_best(self) -> None:
        """Save where the training stands, and its best so far."""
        from ouzel.worker.kinds import checkpoint

        if self._state is not None:
            self._work.save(checkpoint.dump(self._state()))


_PHASES = {"features": "computing features", "head": "head", "training": "training", "validating": "validating"}


def recipe_of(spec: pb.FinetuneSpec) -> Recipe:
    """The recipe of a spec. Raises InvalidArgument."""
    from ouzel.finetune import make_recipe

    return make_recipe(spec.recipe or FINETUNE_DEFAULT, _parameters(spec))


def _parameters(spec: pb.FinetuneSpec) -> dict[str, Any]:
    return parameters.checked(spec.recipe or FINETUNE_DEFAULT, spec.parameters, FINETUNE)


def _publish(
    spec: pb.FinetuneSpec, context: JobContext, base: LoadedModel, tuning_report: Report, lineage: Mapping[str, Any]
) -> dict[str, Any]:
    """Publishes in the model store and, if there is one, the model server: once, however often the job is started."""
    from ouzel.models.card import Card
    from ouzel.models.store import ModelStore
    from ouzel.worker.kinds import publishing

    store, tuned = ModelStore(context.environment.models), tuning_report.tuned
    promote = _promoted(spec, context, tuning_report)
    card = Card(spec.name, "1", base.arch, tuned.labels, tuned.preprocessing, "", lineage=lineage)
    state = tuned.network.state_dict()
    context.progress(0, phase="publishing")
    context.check_lease()
    entry = store.publish(spec.name, lambda version: (card, state), context.job)
    served = publishing.serve(context, store, entry, base=f"{base.name}@{base.version}", promote=promote)
    return {
        "model": entry.name,
        "version": entry.version,
        "digest": entry.digest,
        "promoted": store.default(entry.name) == entry.version,
        "served": served,
    }


def _promoted(spec: pb.FinetuneSpec, context: JobContext, tuning_report: Report) -> bool:
    """Whether the new version is to be the default."""
    kinds = pb.FinetuneSpec
    if spec.promote in (kinds.PROMOTION_UNSPECIFIED, kinds.NEVER):
        return False
    served = tuning_report.served
    if spec.promote == kinds.ALWAYS or served is None:  # None: the first of its name
        return True
    if served.accuracy is None:
        context.log(f"not promoted: {served.name} is the default, and {served.problem}", pb.Log.WARNING)
        return False
    accuracy = tuning_report.tuned.test.accuracy
    better = accuracy > served.accuracy
    context.log(
        f"{'promoted' if better else 'not promoted'}: {100 * accuracy:.2f} % of the held-out images "
        f"are right, of the present default {100 * served.accuracy:.2f} %"
    )
    return better


def _served(spec: pb.FinetuneSpec, context: JobContext, tuned: Tuned) -> Comparison | None:
    """Compares the new network with the present default of its name; None if the name is new or this job made it."""
    import torch

    from ouzel import models
    from ouzel.finetune import compare
    from ouzel.models.store import ModelStore

    try:
        present = ModelStore(context.environment.models).file(spec.name)
    except NotFound:
        return None
    if present.lineage is not None and present.lineage.get("job") == context.job:
        return None  # by an attempt before this one
    model = models.load(present.path, "cuda" if torch.cuda.is_available() else "cpu")
    return compare(model, tuned, lambda done, of: context.progress(done, of, phase="comparing"))
