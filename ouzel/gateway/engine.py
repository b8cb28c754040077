"""What answers predictions: a Protocol with two kinds, TorchServe behind the door, and this process itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ouzel.errors import NotFound
from ouzel.task_names import CLASSIFICATION, DETECTION, SEGMENTATION, Task
from ouzel_protos.text import shown
from ouzel_protos.v1 import explain_pb2 as pb


@dataclass(frozen=True)
class Row:
    """One image, and what is asked about it.

    Attributes:
        image: Bytes of a PNG, JPEG or WebP file.
        tensor: A serialised Tensor, in place of an image.
        options: What is asked.
    """

    image: bytes | None = None
    tensor: bytes | None = None
    options: pb.ExplainOptions = field(default_factory=pb.ExplainOptions)


@dataclass(frozen=True)
class Description:
    """What is known of a served model.

    Attributes:
        name: Of the model.
        version: That answers.
        versions: All that are served.
        labels: Names of the K classes, in the order of the outputs.
        input_shape: (C, H, W) of one input.
        platform: What computes.
        task: What the model is for.
        owners: Whose tuned model each version is; the operator's versions are not in it.
    """

    name: str
    version: str
    versions: tuple[str, ...]
    labels: tuple[str, ...]
    input_shape: tuple[int, int, int]
    platform: str = "ouzel"
    task: Task = CLASSIFICATION
    owners: Mapping[str, str] = field(default_factory=dict)

    @property
    def segments(self) -> bool:
        """Whether it is a segmentation model, which answers with label maps in place of scores."""
        return self.task == SEGMENTATION

    def seen_by(self, tenant: str) -> tuple[str, ...]:
        """The versions that exist for a tenant: all of the operator's, and those that it has tuned itself."""
        return tuple(each for each in self.versions if self.owners.get(each, tenant) == tenant)

    @property
    def detects(self) -> bool:
        """Whether it is a detector, which answers with boxes in place of scores of the image."""
        return self.task == DETECTION

    @property
    def takes_images(self) -> bool:
        """Whether grey or colour is what the model takes."""
        return self.input_shape[0] in (1, 3)


def not_served(model: str) -> NotFound:
    """What is said of a model that is not there, or not for the tenant that asks."""
    return NotFound(f"model: {shown(model, 80)} is not served here", field="model")


class Engine(Protocol):
    """Answers predictions. All methods run in one event loop and do not block it."""

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        """Answers rows, each with a result or an error of its own.

        A caller that is cancelled takes its rows with it, as far as they have not begun.

        Args:
            model: Its name.
            version: Its version; "" is the default one.
            rows: One or more.
            deadline: On the clock of `time.monotonic`.

        Returns:
            One envelope per row, in order.

        Raises:
            NotFound: There is no such model, or no such version.
            Unavailable: Nothing answers now.
            ResourceExhausted: Too much waits.
            DeadlineExceeded: The time is over.
        """

    async def describe(self, model: str, version: str) -> Description:
        """What is known of a model; version as that of `predict`. Raises NotFound or Unavailable."""

    async def models(self) -> Sequence[Description]:
        """All that is served: one description per version, by name and version. Raises Unavailable."""

    def stalled(self, model: str, version: str) -> float:
        """Seconds so far, while rows of a model waited, in which nothing computed for it; arguments as of `predict`."""

    async def ready(self) -> bool:
        """Whether predictions are answered."""

    async def start(self) -> None:
        """Begins."""

    async def close(self) -> None:
        """Ends what runs. What has not been answered fails with Unavailable."""
