"""An audit of a data set: one row for each image, and what they show together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ouzel.audit.dataset.cluster_tests import Material, examined_clusters
from ouzel.audit.dataset.design import DatasetDesign
from ouzel.audit.dataset.distinct import distinct
from ouzel.audit.dataset.evidence import DatasetEvidence, Suspect
from ouzel.audit.dataset.examples import UNREADABLE, Example, checked
from ouzel.audit.dataset.groups import groups
from ouzel.audit.dataset.image import ImageAudit, Kept, Refused, label_of, refused, written
from ouzel.audit.dataset.label_errors import label_errors
from ouzel.audit.dataset.links import cells, links, worst
from ouzel.audit.dataset.progress import OnEvent, Progress, Teller
from ouzel.audit.dataset.rows import ImageRow
from ouzel.audit.dataset.scenes import pool_of
from ouzel.audit.maps import Maps
from ouzel.audit.pool import Pool
from ouzel.audit.predictor import Predictor
from ouzel.errors import FailedPrecondition, InvalidArgument

_DEFAULTS = DatasetDesign()
_STEPS = 16  # of the curves of the images that are shown
_PATIENCE = 16  # images that may be refused at the beginning because of the source's answers


def audit_dataset(
    predictor: Predictor,
    maps: Maps,
    examples: Sequence[Example],
    design: DatasetDesign = _DEFAULTS,
    *,
    surrogate: Predictor | None = None,
    on_event: OnEvent | None = None,
    resume: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] | None = None,
) -> DatasetEvidence:
    """Audits a data set.

    Images are read one at a time, those of the pool, of clusters and of suspects more than once. An image that cannot
    be read becomes a row with the verdict "refused".

    Args:
        predictor: Whose predictions are audited.
        maps: Where saliency maps come from.
        examples: The images.
        design: Fixed beforehand; its hash is part of the result.
        surrogate: Another model whose opinion of each image is noted.
        on_event: Told before the first answer, after each image, and after each part of what follows.
        resume: The state of an event: rows that are there are not made again. The result is the same.
        stop: Whether to stop; asked at every event.

    Returns:
        The evidence, with verdicts on classes and on all images.

    Raises:
        InvalidArgument: There is no image, a name occurs twice, the model has none of the labels, or it has no class
            that was declared a scene.
        FailedPrecondition: The state is of another design or of other examples; or the first 16 images were all
            refused, the last one because of the source's answer.
        OuzelError: The source does not answer. The state of the last event is still good.
        Stopped: That was wanted.
    """
    digest = checked(examples)
    predictor, surrogate = distinct(predictor), None if surrogate is None else distinct(surrogate)
    examples = [_relabelled(each, predictor) for each in examples]
    scenes = _check_labels(predictor, examples, design)
    progress = Progress.of(design.sha256(), digest, resume)
    tell = Teller(progress, on_event, stop)
    tell("registered", len(progress.kept), len(examples))
    pool = pool_of(examples, predictor, design, lambda count: tell("pool", count))
    audit = ImageAudit(predictor, maps, design, pool, surrogate)
    for example in examples[len(progress.kept) :]:
        progress.kept.append(_kept(audit, example, progress.rows if len(progress.kept) < _PATIENCE else ()))
        tell("images", len(progress.kept), len(examples))
    material = Material(examples, progress.kept, predictor)
    clusters, clusters_reason = examined_clusters(material, design, lambda done, of: tell("clusters", done, of))
    suspects = _suspects(audit, examples, progress.rows, design, tell)
    overall, classes = groups(progress.rows, design, scenes)
    table = cells(progress.rows)
    answers = [(each.row, each.answer) for each in progress.kept if each.answer is not None]
    return DatasetEvidence(
        mode="predictions",
        source=predictor.source,
        maps_from=maps.told,
        design=design.to_dict(),
        design_sha256=progress.design,
        examples_sha256=progress.examples,
        overall=overall,
        classes=classes,
        links=links(progress.rows, design),
        cells=table,
        worst=worst(table, design.margins.fewest),
        clusters=clusters,
        clusters_reason=clusters_reason,
        suspects=suspects,
        label_errors=label_errors(answers, predictor.labels),
        rows=progress.rows,
        limits=_limits(progress.rows, pool),
    )


def _relabelled(example: Example, predictor: Predictor) -> Example:
    """With its labels as the model writes them."""
    true = None if example.true_label is None else written(predictor, example.true_label)
    return replace(example, label=written(predictor, example.label), true_label=true)


def _check_labels(predictor: Predictor, examples: Sequence[Example], design: DatasetDesign) -> frozenset[str]:
    """Refuses labels none of which the model has. Returns the classes that are scenes, as the model writes them."""
    problem: InvalidArgument | None = None
    for label in dict.fromkeys(each.label for each in examples):
        try:
            label_of(predictor, label)
            break
        except InvalidArgument as error:
            problem = problem or error
    else:
        raise InvalidArgument(f"examples: the model has none of the labels; {problem}", field="examples")
    try:
        return frozenset(label_of(predictor, each) for each in design.scenes)
    except InvalidArgument as error:
        raise InvalidArgument(f"scenes: {error}", field="scenes") from None


def _kept(audit: ImageAudit, example: Example, before: Sequence[ImageRow]) -> Kept:
    try:
        return audit(example)
    except Refused as error:
        cause = error.__cause__
        none_yet = len(before) == _PATIENCE - 1 and all(each.verdict == "refused" for each in before)
        if none_yet and isinstance(cause, FailedPrecondition):
            raise cause from None  # the source is at fault, not the images
        return Kept(refused(example, str(error)))


def _suspects(
    audit: ImageAudit, examples: Sequence[Example], rows: Sequence[ImageRow], design: DatasetDesign, tell: Teller
) -> tuple[Suspect, ...]:
    """Images that somebody should look at, those that rest most on their background first."""
    wanted = sorted((n for n, row in enumerate(rows) if row.concern), key=lambda n: _order(rows[n]))
    shown = []
    for done, number in enumerate(wanted[: design.suspects], 1):
        evidence = None
        with suppress(*UNREADABLE):
            evidence = audit.evidence(examples[number], steps=_STEPS)
        shown.append(Suspect(rows[number], evidence))
        tell("suspects", done, min(len(wanted), design.suspects))
    return tuple(shown)


def _order(row: ImageRow) -> tuple[float, float]:
    return -row.evidence, 0.0 if row.probability is None else row.probability


def _limits(rows: Sequence[ImageRow], pool: Pool) -> tuple[str, ...]:
    limits = [
        "Verdicts hold for these images and these changes. They are no statement about other images.",
        "A class without a verdict of its own may still rest on its background: see its interval.",
    ]
    sources = {row.mask_source for row in rows}
    if "nominated" in sources:
        limits.append("Of images without a mask or boxes nobody knows where the object is: they are in no test.")
    if "boxes" in sources:
        limits.append("Boxes hold background beside the object: what is called the object is both.")
    if len({scene.label for scene in pool.scenes}) < 2:
        limits.append(
            "Images with a known object are of fewer than two classes: no background and no object of another class "
            "was tried, and no link between classes can be found."
        )
    if any(row.verdict == "refused" for row in rows):
        limits.append("Images that were refused are in no figure but their own count.")
    return tuple(limits)
