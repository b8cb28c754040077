"""The parts of an audit: agreement, maps, changed pictures and their effects."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ouzel_client._optional import need_pillow
from ouzel_client._pictures.figure import figure_html
from ouzel_client._types.explanation import SaliencyMap
from ouzel_client.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL import Image as PILImage


@dataclass(frozen=True)
class AuditSource:
    """Whose prediction is audited.

    Attributes:
        kind: "model" of the store, "endpoint" of another service, "callable" of the caller, who reported the answers,
            or "table" of recorded predictions.
        name: Its name.
        version: Its version, as it states it; may be empty.
        digest: "sha256:..." of the weights; empty if nobody knows.
    """

    kind: Literal["model", "endpoint", "callable", "table"]
    name: str
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}{f' {self.version}' if self.version else ''}"


@dataclass(frozen=True)
class ClassScore:
    """A class, and its probability for the unchanged image.

    Attributes:
        index: Its index.
        label: Its label.
        probability: In [0, 1].
    """

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Agreement:
    """Whether the source says what was claimed.

    Attributes:
        claimed: The class that was claimed.
        predicted: The class that is predicted.
        rival: The best class other than the claimed one.
        rank: Place of the claimed class; 0 is the best.
    """

    claimed: ClassScore
    predicted: ClassScore
    rival: ClassScore
    rank: int

    @property
    def agrees(self) -> bool:
        """Whether the claimed class is the predicted one."""
        return self.rank == 0


@dataclass(frozen=True)
class Faithfulness:
    """Whether the prediction follows the pixels that a map points at: areas under curves, in [0, 1].

    Attributes:
        deletion: Lower is better.
        insertion: Higher is better.
        random_deletion: Mean over random orders of the same pixels.
        random_insertion: As `random_deletion`.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float

    @property
    def better_than_random(self) -> bool:
        """Whether the map beats random orders in both."""
        return self.deletion < self.random_deletion and self.insertion > self.random_insertion


@dataclass(frozen=True, eq=False)
class AuditMap:
    """A saliency map of the picture that the source saw.

    Attributes:
        of: "claim", "rival" or "contrast".
        saliency: The map, which can be drawn over the image.
        share_on_object: Share of the map's mass on the object; None without a mask or boxes.
        pointing: Whether its maximum is on the object, in [0, 1]; None without a mask or boxes.
        faithfulness: Of this very map; None where it was not measured.
    """

    of: str
    saliency: SaliencyMap = field(repr=False)
    share_on_object: float | None = None
    pointing: float | None = None
    faithfulness: Faithfulness | None = None

    @property
    def array(self) -> npt.NDArray[Any]:
        """(H, W) float32."""
        return self.saliency.array

    @property
    def method(self) -> str:
        """The method of the map."""
        return self.saliency.method

    def overlay(self, alpha: float = 0.8, longest: int = 2048) -> PILImage.Image:
        """Draws the map over the image; see `SaliencyMap.overlay`."""
        return self.saliency.overlay(alpha, longest)

    def _repr_html_(self) -> str:
        return self.saliency._repr_html_()


@dataclass(frozen=True)
class AuditEffect:
    """What a kind of change does beyond its control.

    Attributes:
        change: "background", "object" or "other_object": what is replaced.
        kind: By what: "blur", "mean", "texture" or "scene".
        probability: Mean probability of the claimed class after the change.
        control: Mean probability of the claimed class after the control.
        effect: (control - probability) / the larger of both.
        flips: Share of the changed pictures whose predicted class is another.
        control_flips: Share of the controls whose predicted class is another.
        pictures: How many changed pictures.
    """

    change: str
    kind: str
    probability: float
    control: float
    effect: float
    flips: float
    control_flips: float
    pictures: int


@dataclass(frozen=True)
class Counterfactual:
    """A changed picture, and what the source says of it.

    Attributes:
        name: "background/grass".
        change: What is replaced, or by which control.
        kind: By what.
        changed_pixels: How many.
        probability: Of the claimed class.
        predicted: The label of the predicted class.
        flipped: Whether this is not the class that is predicted for the unchanged picture.
        png: The picture as a file; empty if no pictures were asked for.
    """

    name: str
    change: str
    kind: str
    changed_pixels: int
    probability: float
    predicted: str
    flipped: bool
    png: bytes = field(default=b"", repr=False)

    @property
    def picture(self) -> PILImage.Image:
        """The picture. Needs Pillow. Raises InvalidArgument if no pictures were asked for."""
        return opened(self.png, "picture")

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8. Needs Pillow. Raises as `picture`."""
        return np.asarray(self.picture, dtype=np.uint8)

    def __str__(self) -> str:
        return f"{self.name}: {self.predicted}, {self.probability:.2f}"

    def _repr_html_(self) -> str:
        return figure_html(self.png, "image/png", str(self)) if self.png else ""


@dataclass(frozen=True)
class ReportedMapComparison:
    """A map that a service sent along, compared with the audit's.

    Attributes:
        rank_correlation: Spearman's, of absolute values, in [-1, 1].
        top_overlap: Share of the top 5 % of the audit's pixels that are in the top 5 % of the other map.
    """

    rank_correlation: float
    top_overlap: float


def opened(png: bytes, name: str) -> PILImage.Image:
    """A picture of a result. Raises InvalidArgument if there is none."""
    if not png:
        raise InvalidArgument(f"{name}: the audit was asked for no pictures", field=name)
    image, _ = need_pillow("a picture of an audit")
    picture: PILImage.Image = image.open(io.BytesIO(png))
    picture.load()
    return picture
