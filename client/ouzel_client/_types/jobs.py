"""What jobs are about, what they tell, and what they leave behind."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ouzel_client._optional import need_pillow
from ouzel_client._pictures.figure import figure_html
from ouzel_client.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL import Image as PILImage

State = Literal["QUEUED", "RUNNING", "PUBLISHING", "PAUSED", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"]
Promotion = Literal["never", "if_better", "always"]
FINAL: frozenset[str] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


@dataclass(frozen=True)
class ClassLogit:
    """A node: the logit of a class: an index, or a text as in `Saliency.target`."""

    target: int | str


@dataclass(frozen=True)
class Unit:
    """A node: one unit of a layer. x counts from the left, y from the top; None is the middle."""

    layer: str
    channel: int
    x: int | None = None
    y: int | None = None


@dataclass(frozen=True)
class Channel:
    """A node: the mean of a channel of a layer."""

    layer: str
    channel: int


@dataclass(frozen=True)
class Direction:
    """A node: a direction in the space of a layer's channels, one weight for each."""

    layer: str
    weights: tuple[float, ...]


Node: TypeAlias = ClassLogit | Unit | Channel | Direction


@dataclass(frozen=True)
class Progress:
    """step of steps, which is 0 while it is unknown; phase: what is being done, in a word."""

    step: int
    steps: int
    phase: str


@dataclass(frozen=True)
class JobEvent:
    """Base of all events, each a line as a text. sequence: 1, 2, 3, ... within a job. attempt: counts from 1."""

    sequence: int
    time: datetime
    attempt: int


@dataclass(frozen=True)
class ProgressEvent(JobEvent):
    progress: Progress

    def __str__(self) -> str:
        done = self.progress
        return f"{done.phase} {done.step}" + (f" of {done.steps}" if done.steps else "")


@dataclass(frozen=True)
class MetricEvent(JobEvent):
    step: int
    values: Mapping[str, float]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())


@dataclass(frozen=True)
class PreviewEvent(JobEvent):
    """A thumbnail of what the job is at: `image` is a file of the type `media_type`. It shows itself in a notebook."""

    step: int
    title: str
    media_type: str
    image: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"preview of {self.title}"

    def _repr_html_(self) -> str:
        return figure_html(self.image, self.media_type, self.title)


@dataclass(frozen=True)
class LogEvent(JobEvent):
    level: Literal["INFO", "WARNING", "ERROR"]
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.message}"


@dataclass(frozen=True)
class StateEvent(JobEvent):
    """previous: None of the first event, before which there was no job."""

    previous: State | None
    state: State
    reason: str

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


@dataclass(frozen=True)
class Artifact:
    """A file that a job left behind. size: bytes; sha256: hex."""

    name: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job that SUCCEEDED left behind. It shows its images in a notebook.

    summary: figures by name, as the job's kind documents them. pictures: the PNG files of the images that were found,
    by name, in order; of a search, the crops.
    """

    job: str
    artifacts: tuple[Artifact, ...]
    summary: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(repr=False)

    @property
    def images(self) -> tuple[PILImage.Image, ...]:
        """The images that were found, in order. Needs Pillow."""
        pillow, _ = need_pillow("an image of a result")
        return tuple(pillow.open(io.BytesIO(content)) for content in self.pictures.values())

    @property
    def image(self) -> PILImage.Image:
        """The first of them. Raises InvalidArgument if there is none."""
        if not self.pictures:
            raise InvalidArgument(f"{self.job} left no images", field="image")
        return self.images[0]

    def _repr_html_(self) -> str:
        return "".join(figure_html(content, "image/png", name) for name, content in self.pictures.items())


@dataclass(frozen=True, eq=False)
class FinetuneResult(JobResult):
    """The new version of a model, and how good it is.

    accuracy: share of the held-out images that it is right on, in [0, 1]; interval: where that lies with 95 %
    confidence; balanced_accuracy: mean over the classes. NaN where the worker tells none. promoted: whether callers who
    name no version get this one. served: whether it could be asked when the job ended. notes: sentences about what did
    not go as it was asked for, e.g. a time limit that left no time for fine-tuning. pictures: curves of the training,
    images that were taken for something else, and what the network looked at before and after.
    """

    model: str
    version: str
    accuracy: float
    interval: tuple[float, float]
    balanced_accuracy: float
    promoted: bool
    served: bool
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.model} version {self.version}: {100 * self.accuracy:.1f} % of the held-out images are right "
            f"(95 %: {100 * low:.1f} to {100 * high:.1f})"
        )

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in (str(self), *self.notes))
        return f"{lines}{super()._repr_html_()}"
