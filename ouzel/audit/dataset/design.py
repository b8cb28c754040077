"""How a data set is audited. All of it is fixed before the first answer, and its hash is part of the result."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

from ouzel.audit.evidence import Margins
from ouzel.audit.options import PredictionOptions
from ouzel.canonical import canonical
from ouzel.checks import within
from ouzel.errors import InvalidArgument

# Stated in the design, so that a reader of its hash knows what was to be tested.
RULES = {
    "flip": "More than half of the pictures of a change have another predicted class than the unchanged picture.",
    "background": "Backgrounds of other classes against backgrounds of the same class; without those, textures "
    "against the same background rearranged.",
    "object": "Objects of other classes against objects of the same class; without those, the object filled against "
    "a region of its shape elsewhere, filled.",
    "pairs": "Images of known region and of a size within the limits, of which the model says what was claimed.",
    "test": "Exact McNemar, two-sided; Holm over the classes, separately for background and object; Holm over all "
    "links; Holm over all tests of clusters.",
    "rests_on_background": "The background's excess is at least margins.flip with adjusted p below alpha, and "
    "exceeds the object's by margins.flip.",
    "rests_on_object": "The object's excess is at least margins.flip with adjusted p below alpha, and the whole 95 % "
    "interval of the background's excess is below margins.flip.",
    "all images": "As a class, with one test each; not rests_on_object if a class that is no scene "
    "rests_on_background.",
    "disagrees": "The whole 95 % interval of the agreement is below margins.agreement.",
    "inconclusive": "Anything else; also if the controls flip more than margins.control, or pairs are fewer than "
    "margins.fewest.",
}


@dataclass(frozen=True)
class GroupMargins:
    """Margins of the verdict on a class, and on all images.

    Attributes:
        flip: Share of images that a change must flip beyond its control, 0.01 to 1.
        control: Share of images that a control may flip, 0 to 1: above that the model copes with no change.
        agreement: Share of images of which the model must say what was claimed, 0 to 1.
        fewest: Pairs that a verdict needs, 1 to 1,000,000. With fewer than 6 no exact test is below 0.05.
    """

    flip: float = 0.2
    control: float = 0.5
    agreement: float = 0.5
    fewest: int = 6


@dataclass(frozen=True)
class DatasetDesign:
    """How a data set is audited.

    Attributes:
        fills: As of `PredictionOptions`.
        images: Other images that each image's backgrounds and objects are taken from: `PredictionOptions.scenes`.
        image_margins: Of the verdict on one image.
        margins: Of the verdict on a class.
        alpha: Of the corrected tests, 0.001 to 0.2.
        scenes: Labels of classes that are places: they may rest on their background.
        pool_per_class: Images of each class that backgrounds and objects are taken from, 1 to 256.
        clusters: Whether to look for clusters of like maps.
        cluster_pairs: Pairs that each cluster is tested with, 6 to 256.
        suspects: Images that are shown, 0 to 64.
        seed: Of all that is drawn.

    Raises:
        InvalidArgument: A value is out of range.
    """

    fills: tuple[str, ...] = ("blur", "mean", "texture")
    images: int = 4
    image_margins: Margins = field(default_factory=Margins)
    margins: GroupMargins = field(default_factory=GroupMargins)
    alpha: float = 0.05
    scenes: tuple[str, ...] = ()
    pool_per_class: int = 24
    clusters: bool = True
    cluster_pairs: int = 40
    suspects: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        within("margins.flip", self.margins.flip, 0.01, 1)
        for name in ("control", "agreement"):
            within(f"margins.{name}", getattr(self.margins, name), 0, 1)
        within("margins.fewest", self.margins.fewest, 1, 1_000_000)
        within("alpha", self.alpha, 0.001, 0.2)
        within("pool_per_class", self.pool_per_class, 1, 256)
        within("cluster_pairs", self.cluster_pairs, 6, 256)
        within("suspects", self.suspects, 0, 64)
        if len(set(self.scenes)) != len(self.scenes):
            raise InvalidArgument(f"scenes: {self.scenes!r:.80} names a class twice", field="scenes")
        within("images", self.images, 0, 32)
        self.prediction()  # checks the rest

    def prediction(self, *, steps: int = 0) -> PredictionOptions:
        """How each image is audited.

        Args:
            steps: Of the curves of deletion and insertion. They cost many answers, so only suspects get them.
        """
        return PredictionOptions(self.fills, self.images, steps, margins=self.image_margins, seed=self.seed)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types, with the rules in words."""
        return asdict(self) | {"fills": list(self.fills), "scenes": list(self.scenes), "rules": RULES}

    def sha256(self) -> str:
        """Of `to_dict` in canonical JSON (RFC 8785), in hex."""
        return hashlib.sha256(canonical(self.to_dict())).hexdigest()
