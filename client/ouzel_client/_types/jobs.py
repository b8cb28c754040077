"""Jobs: the nodes that they are about, their events and their results."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ouzel_client._optional import need_pillow
from ouzel_client._pictures.figure import figure_html
from ouzel_client._types.early import EarlyOutcome
from ouzel_client._types.grounding import GateVerdict, Repair
from ouzel_client.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL import Image as PILImage

Promotion = Literal["never", "if_better", "always", "if_grounded"]


@dataclass(frozen=True)
class ClassLogit:
    """A node: the logit of a class.

    Attributes:
        target: An index, or a text as in `Saliency.target`.
    """

    target: int | str


@dataclass(frozen=True)
class Unit:
    """A node: one unit of a layer.

    Attributes:
        layer: Name of the layer.
        channel: Index of the channel.
        x: Column from the left, None for the middle.
        y: Row from the top, None for the middle.
    """

    layer: str
    channel: int
    x: int | None = None
    y: int | None = None


@dataclass(frozen=True)
class Channel:
    """A node: the mean of a channel of a layer.

    Attributes:
        layer: Name of the layer.
        channel: Index of the channel.
    """

    layer: str
    channel: int


@dataclass(frozen=True)
class Direction:
    """A node: a direction in the space of a layer's channels.

    Attributes:
        layer: Name of the layer.
        weights: One weight for each channel.
    """

    layer: str
    weights: tuple[float, ...]


Node: TypeAlias = ClassLogit | Unit | Channel | Direction


@dataclass(frozen=True)
class Artifact:
    """A file that a job has made.

    Attributes:
        name: Its name, with folders: "images/000.png".
        media_type: The type of the file.
        size: Bytes.
        sha256: Digest of its content, hexadecimal.
        url: Where a GET has its content, where links were asked for and the worker gives them. Whoever has it can read
            the file. Compare what comes from there with the digest.
        url_expires: Until when; None without a link.
    """

    name: str
    media_type: str
    size: int
    sha256: str
    url: str | None = field(default=None, repr=False)
    url_expires: datetime | None = None


@dataclass(frozen=True, eq=False)
class JobResult:
    """The result of a job that SUCCEEDED. A notebook shows its images.

    Attributes:
        job: The id of the job.
        artifacts: The files that it has made.
        summary: Figures by name, which depend on the kind of the job.
        pictures: The PNG files of the images by name, in order; for a search, the crops.
    """

    job: str
    artifacts: tuple[Artifact, ...]
    summary: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(repr=False)

    @property
    def images(self) -> tuple[PILImage.Image, ...]:
        """The images, in order. Needs Pillow."""
        pillow, _ = need_pillow("an image of a result")
        return tuple(pillow.open(io.BytesIO(content)) for content in self.pictures.values())

    @property
    def image(self) -> PILImage.Image:
        """The first image. Needs Pillow.

        Raises:
            InvalidArgument: The job has made no images.
        """
        if not self.pictures:
            raise InvalidArgument(f"{self.job} left no images", field="image")
        return self.images[0]

    def _repr_html_(self) -> str:
        return "".join(figure_html(content, "image/png", name) for name, content in self.pictures.items())


@dataclass(frozen=True, eq=False)
class FinetuneResult(JobResult):
    """The new version of a model, and how good it is.

    `pictures` are curves of the training, images that were mistaken for another class, and saliency maps of the network
    before and after.

    Attributes:
        model: The name of the model.
        version: The new version.
        accuracy: Share of the held-out images that it classifies correctly, in [0, 1]. NaN if the worker does not
            tell it, as the next two.
        interval: The 95 % confidence interval of the accuracy, of `miou` or of `map`.
        balanced_accuracy: Mean of the accuracies of the classes.
        promoted: Whether callers who name no version get this one.
        served: Whether it was served when the job ended.
        notes: Sentences about what did not go as requested, such as a time limit that left no time to tune.
        gate: What the gate said, with promote="if_grounded"; None if it was not asked.
        repair: What the network rested on before and after its repair; None if it was not repaired.
        miou: Mean intersection over union, in [0, 1], of a segmentation, which has no accuracy; None of others.
        pixel_accuracy: Share of the held-out pixels that are right, of a segmentation.
        map: COCO's mean average precision, in [0, 1], of a detector, which has no accuracy; None of others.
        map50: The same at an overlap of .5 alone.
        early: With early=True, the version that was published first beside what came after it. All other attributes
            are of the better one of the two. None if the job did not answer early.
        search: Of a job with a search: its `table` of trials, `best`, and how many ended how; None without one.
    """

    model: str
    version: str
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    promoted: bool
    served: bool
    notes: tuple[str, ...] = ()
    gate: GateVerdict | None = None
    repair: Repair | None = None
    miou: float | None = None
    pixel_accuracy: float | None = None
    map: float | None = None
    map50: float | None = None
    early: EarlyOutcome | None = None
    search: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        low, high = self.interval
        said = f"{100 * self.accuracy:.1f} % of the held-out images are right"
        if self.miou is not None:
            said = f"mean IoU {100 * self.miou:.1f} % on the held-out images"
        if self.map is not None:
            said = f"mAP {100 * self.map:.1f} % on the held-out images"
        return f"{self.model} version {self.version}: {said} (95 %: {100 * low:.1f} to {100 * high:.1f})"

    def _repr_html_(self) -> str:
        gate = () if self.gate is None else (f"{'Passed' if self.gate.passed else 'Not passed'}: {self.gate.reason}",)
        early = () if self.early is None else (f"The training is {self.early.reason}",)
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in (str(self), *early, *gate, *self.notes))
        return f"{lines}{super()._repr_html_()}"
