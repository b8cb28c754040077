"""Fine-tuning: a model of the store becomes a classifier of the images of a data set, and is served.

Artifacts: report.html, report.json, predictions.csv (of the test images), curves.png (of recipes that train by
epochs), mistakes/00.png, ... (test images that were taken for something else, the worst first, with what the network
looked at), compared/00-before.png, 00-after.png, ... (of test images, what the base and the tuned network look at).
Summary: model, version, digest, promoted, served, accuracy, accuracy_low, accuracy_high (95 %), balanced_accuracy and
the other figures of `ouzel.finetune.report`; notes, sentences about what did not go as it was asked for, absent if
there are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ouzel.checks import did_you_mean
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.worker.catalog.catalog import Catalogue, Model
from ouzel.worker.kinds import lineage as lineages
from ouzel.worker.kinds import parameters, training_data
from ouzel.worker.kinds.context import Done, File, Stopped, Work
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Comparison, Event, Recipe, Report, Tuned
    from ouzel.models import Model as LoadedModel

_DEFAULT = "lp_ft"
_LONGEST = 30 * 86_400.0  # s
_EDGE = (32, 1024)
_CACHE_BYTES = 20 * 2**30
_LONG = ("history", "classes")
_GROWING, _FEW = ("labels", "confusion"), 20  # classes
_SAVE_SHARE = 20  # a checkpoint may cost a twentieth of the time


def validate(spec: pb.FinetuneSpec, catalogue: Catalogue) -> None:
    base = catalogue.model(spec.base, "base")
    _check_base(spec, base.digest)
    _check_recipe(spec, base)
    catalogue.check_new_name(spec.name)
    if not 0 <= spec.seed < 2**63:
        raise InvalidArgument(f"seed: {spec.seed} is negative", field="seed")
    if not 0 <= spec.max_training_seconds <= _LONGEST:  # not so for NaN
        raise InvalidArgument(
            f"max_training_seconds: {spec.max_training_seconds} is not within 0..{_LONGEST:.0f}",
            field="max_training_seconds",
        )
    if spec.image_size and not _EDGE[0] <= spec.image_size <= _EDGE[1]:
        raise InvalidArgument(f"image_size: {spec.image_size} is not within {_EDGE[0]}..{_EDGE[1]}", field="image_size")
    if spec.promote not in pb.FinetuneSpec.Promotion.values():
        raise InvalidArgument(f"promote: {spec.promote} is not one that is known", field="promote")
    training_data.check(spec.dataset, catalogue)


def report(spec: pb.FinetuneSpec, catalogue: Catalogue) -> Mapping[str, Any]:
    """What `validate_only` answers: how the data set looks."""
    return training_data.report(spec.dataset, catalogue)


def run(spec: pb.FinetuneSpec, work: Work) -> Done:
    import torch

    from ouzel import models
    from ouzel.finetune import Diverged, finetune
    from ouzel.finetune import report as reports
    from ouzel.finetune.features import trim
    from ouzel.models.store import ModelStore
    from ouzel.worker.kinds import checkpoint

    work.progress(0, phase="loading")
    store = ModelStore(work.models)
    file = store.file(spec.base)
    if not file.seen_by(work.owner):  # the name may be somebody else's by now
        raise NotFound(f"base: no model {spec.base!r:.80}", field="base")
    base = models.load(file.path, "cuda" if torch.cuda.is_available() else "cpu")
    _check_base(spec, base.digest)
    work.progress(0, phase="checking the images")
    examples = training_data.examples(spec.dataset, work)
    trim(work.cache, _CACHE_BYTES)
    told = _Told(work)
    try:
        tuned = finetune(
            base,
            examples,
            recipe_of(spec),
            seed=spec.seed,
            image_size=spec.image_size,
            max_training_seconds=spec.max_training_seconds,
            cache=work.cache,
            on_event=told,
            resume=None if work.checkpoint is None else checkpoint.read(work.checkpoint),
            batch_scale=work.batch_scale,
        )
    except Diverged:
        told.keep_best()
        raise
    served = _served(spec, work, tuned)
    work.progress(0, phase="reporting")
    found = reports.make_report(base, tuned, served)
    for note in tuned.notes:
        work.log(note, pb.Log.WARNING)
    lineage = lineages.lineage(spec, work, base, tuned)
    if work.stop_wanted():
        raise Stopped
    published = _publish(spec, work, base, found, lineage)
    written = reports.files(found, f"{published['model']}@{published['version']}", lineage)
    files = [File(name, media_type, content) for name, (media_type, content) in written.items()]
    return Done(files, {**_short(reports.summary(found)), **published})


def _short(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Without what grows with classes and epochs, where there are many: lists of jobs carry their results."""
    few = len(summary["labels"]) <= _FEW
    return {key: value for key, value in summary.items() if key not in _LONG and (few or key not in _GROWING)}


class _Told:
    """Hands the library's events on, saves, and raises Stopped when that is wanted."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._state: Callable[[], dict[str, Any]] | None = None
        self._saving = 0.0  # seconds that the last checkpoint took
        self._saved = time.monotonic()

    def __call__(self, event: Event) -> None:
        work = self._work
        work.progress(event.step, event.steps, _PHASES[event.phase], event.metrics)
        if event.phase == "validating":  # to stop here would lose an epoch
            return
        stop = work.stop_wanted()
        self._state = event.state or self._state
        due = work.save_wanted() and time.monotonic() - self._saved >= _SAVE_SHARE * self._saving
        # The head is a result already, and the last step would be a pity to lose. One that an earlier attempt has saved
        # is no news: were it saved again, a job could fail behind it for ever.
        due |= event.step == event.steps and not (event.phase == "head" and work.checkpoint)
        if event.state is not None and (stop or due):
            begun = time.monotonic()
            self.keep_best()
            self._saved = time.monotonic()
            self._saving = self._saved - begun
        if stop:
            raise Stopped

    def keep_best(self) -> None:
        """Save where the training stands, and its best so far."""
        from ouzel.worker.kinds import checkpoint

        if self._state is not None:
            self._work.save(checkpoint.dump(self._state()))


_PHASES = {"features": "computing features", "head": "head", "training": "training", "validating": "validating"}


def recipe_of(spec: pb.FinetuneSpec) -> Recipe:
    from ouzel.finetune import make_recipe
    from ouzel.finetune.recipes import LIMITS

    whole = [name for name, limit in LIMITS.items() if limit.kind is int]
    return make_recipe(spec.recipe or _DEFAULT, parameters.plain(spec.parameters, whole, flags=True))


def _check_base(spec: pb.FinetuneSpec, digest: str) -> None:
    """Other weights would make another model, which looks like the one that was to be made again."""
    if spec.base_digest not in ("", digest):
        raise FailedPrecondition(
            f"base_digest: {spec.base!r:.80} has the weights {digest}, not {spec.base_digest:.80}", field="base_digest"
        )


def _check_recipe(spec: pb.FinetuneSpec, base: Model) -> None:
    name = spec.recipe or _DEFAULT
    if name not in base.tuning:
        raise InvalidArgument(
            f"recipe: {name!r:.80} is not one of {', '.join(base.tuning)}{did_you_mean(name, base.tuning)}",
            field="recipe",
        )
    allowed = base.tuning[name]
    whole = [key for key, limit in allowed.items() if limit.whole]
    values = parameters.plain(spec.parameters, whole, flags=True)
    for key, value in values.items():
        if key not in allowed:
            raise InvalidArgument(
                f"parameters.{key:.80}: {name} knows only {', '.join(allowed)}", field=f"parameters.{key}"
            )
        allowed[key].check(f"parameters.{key}", value)


def _publish(
    spec: pb.FinetuneSpec, work: Work, base: LoadedModel, found: Report, lineage: Mapping[str, Any]
) -> dict[str, Any]:
    """Into the model store and, if there is one, the model server; once, however often a job is begun anew."""
    from ouzel.models.card import Card
    from ouzel.models.store import ModelStore
    from ouzel.worker.kinds import publishing

    store, tuned = ModelStore(work.models), found.tuned
    promote = _promoted(spec, work, found)
    card = Card(spec.name, "1", base.arch, tuned.labels, tuned.preprocessing, "", lineage=lineage)
    state = tuned.network.state_dict()
    work.progress(0, phase="publishing")
    work.still_mine()
    entry = store.publish(spec.name, lambda version: (card, state), work.job)
    served = publishing.serve(work, store, entry, base=f"{base.name}@{base.version}", promote=promote)
    return {
        "model": entry.name,
        "version": entry.version,
        "digest": entry.digest,
        "promoted": store.default(entry.name) == entry.version,
        "served": served,
    }


def _promoted(spec: pb.FinetuneSpec, work: Work, found: Report) -> bool:
    """Whether the new version is to be the default."""
    kinds = pb.FinetuneSpec
    if spec.promote in (kinds.PROMOTION_UNSPECIFIED, kinds.NEVER):
        return False
    if spec.promote == kinds.ALWAYS or found.served is None:  # None: the first of its name
        return True
    if found.served.accuracy is None:
        work.log(f"not promoted: {found.served.name} is the default, and {found.served.problem}", pb.Log.WARNING)
        return False
    better = found.tuned.test.accuracy > found.served.accuracy
    work.log(
        f"{'promoted' if better else 'not promoted'}: {100 * found.tuned.test.accuracy:.2f} % of the held-out images "
        f"are right, of the present default {100 * found.served.accuracy:.2f} %"
    )
    return better


def _served(spec: pb.FinetuneSpec, work: Work, tuned: Tuned) -> Comparison | None:
    """The new network beside the present default of its name; None if there is none but of this very job."""
    import torch

    from ouzel import models
    from ouzel.finetune import compare
    from ouzel.models.store import ModelStore

    try:
        present = ModelStore(work.models).file(spec.name)
    except NotFound:
        return None
    if present.lineage is not None and present.lineage.get("job") == work.job:
        return None  # by an attempt before this one
    model = models.load(present.path, "cuda" if torch.cuda.is_available() else "cpu")
    return compare(model, tuned, lambda done, of: work.progress(done, of, phase="comparing"))
