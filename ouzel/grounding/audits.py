"""The audits of a gate and of a repair: several networks, on the same images and by the same design."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ouzel.audit import ModelMaps, ModelPredictor
from ouzel.audit.dataset import DatasetDesign, DatasetEvidence, audit_dataset
from ouzel.audit.dataset.progress import OnEvent
from ouzel.errors import InvalidArgument
from ouzel.finetune import Example, Split
from ouzel.grounding.examples import audited, has_region
from ouzel.grounding.margins import GateMargins, fewest, smallest
from ouzel.models import Model
from ouzel.saliency import Explainer

METHOD = "grad_cam"
MOST = 500  # images that are audited


@dataclass(frozen=True, eq=False)
class Audited:
    """A network and what its audit shows.

    Attributes:
        model: The network.
        evidence: Of the audit.
        predictor: Answers pictures.
        maps: Of pictures.
    """

    model: Model
    evidence: DatasetEvidence
    predictor: ModelPredictor = field(repr=False)
    maps: ModelMaps = field(repr=False)


def audit_model(
    model: Model,
    images: Sequence[Example],
    design: DatasetDesign,
    *,
    on_event: OnEvent | None = None,
    resume: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Audited:
    """Audit a network on held-out images. Arguments and errors as those of `audit_dataset`."""
    explainer = Explainer(model)
    predictor = ModelPredictor(model, explainer)
    maps = ModelMaps(model, model.labels, METHOD, explainer=explainer)
    examples = [audited(each, held_out=True) for each in images]
    evidence = audit_dataset(predictor, maps, examples, design, on_event=on_event, resume=resume, stop=stop)
    return Audited(model, evidence, predictor, maps)


def audited_images(held_out: Sequence[Example], seed: int) -> tuple[Example, ...]:
    """The held-out images that are audited: those of which somebody knows where the object is.

    Of more than `MOST` images as many of each class are drawn.
    """
    classes: dict[str, list[Example]] = {}
    for each in sorted(held_out, key=lambda image: image.name):
        if has_region(each):
            classes.setdefault(each.label, []).append(each)
    turns = []
    for number, label in enumerate(sorted(classes)):
        order = np.random.default_rng([seed % 2**31, number]).permutation(len(classes[label]))
        turns += [(place, label, classes[label][row]) for place, row in enumerate(order)]
    drawn = [each for _, _, each in sorted(turns, key=lambda turn: turn[:2])[:MOST]]
    return tuple(sorted(drawn, key=lambda each: each.name))


def check_apart(parts: Split) -> None:
    """Refuses held-out images that are among those that are learnt from: what they show of a version says nothing.

    Raises:
        InvalidArgument: It names the first one.
    """
    learnt = {each.sha256 for each in (*parts.train, *parts.validation)}
    if both := [each.name for each in parts.test if each.sha256 in learnt]:
        raise InvalidArgument(
            f"dataset: {len(both)} of the held-out images are for training as well, {both[0]!r:.80} for one; a gate "
            "needs images that nothing is learnt from",
            field="dataset",
        )


def check_images(held_out: Sequence[Example], audited: Sequence[Example], margins: GateMargins, *, first: bool) -> None:
    """Refuses images that are too few for any version to pass the gate, before something is trained.

    Args:
        held_out: That the accuracies are compared on.
        audited: Those of them that are audited.
        margins: Of the gate.
        first: Whether the new version is the first of its name, whose accuracy is not compared.

    Raises:
        InvalidArgument: It names the margin, how many images it needs, and the margin that these could show.
    """
    if not first:
        _enough("accuracy_margin", margins.accuracy_margin, len(held_out), "held-out images")
    tried = [each for each in audited if each.label not in margins.scenes]
    _enough("reliance_margin", margins.reliance_margin, len(tried), "held-out images with a mask or boxes")
    if len({each.label for each in audited}) < 2:
        raise InvalidArgument(
            "promote: the gate puts objects before backgrounds of other classes, and the held-out images with a mask "
            "or boxes are of one class",
            field="promote",
        )


def _enough(field: str, margin: float, images: int, what: str) -> None:
    if images < fewest(margin):
        possible = smallest(images)
        least = f"; they can show {possible:.3f} at best" if possible < 1 else ""
        raise InvalidArgument(
            f"{field}: {margin:g} cannot be shown with {images} {what}: {fewest(margin)} are needed even if no "
            f"prediction differs{least}",
            field=field,
        )
