"""The results of explaining: frozen dataclasses over numpy arrays, which are read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from ouzel_client._pictures.drawing import Drawing
from ouzel_client._pictures.figure import prediction_html
from ouzel_client._pictures.upload import Upload
from ouzel_client._types.detection import Detections
from ouzel_client._types.ledger import LedgerEntry
from ouzel_client._types.model_info import ModelInfo
from ouzel_client._types.regions import Box
from ouzel_client._types.saliency import Reduction, Size
from ouzel_client._types.segmentation import Segmentation
from ouzel_client.errors import AmbiguousKey
from ouzel_protos import boxes

if TYPE_CHECKING:
    from PIL import Image as PILImage


@dataclass(frozen=True)
class Timing:
    """What the model's process spent on the batch that the request was part of, in milliseconds.

    The stages follow one another. The time in the queue before is not among them.

    Attributes:
        decode_ms: Reading the options and decoding the images.
        compute_ms: In the network.
        total_ms: The sum of the stages.
        batch_size: Requests that were computed together.
        preprocess_ms: From pixels to the network's input.
        copy_ms: Between the memory of the host and that of the device, both ways.
        encode_ms: Making the messages of the answers.
    """

    decode_ms: float
    compute_ms: float
    total_ms: float
    batch_size: int
    preprocess_ms: float = 0.0
    copy_ms: float = 0.0
    encode_ms: float = 0.0


@dataclass(frozen=True)
class View:
    """What the model saw, in pixels of the uploaded image, upright.

    Attributes:
        image_width: Width of the image.
        image_height: Height of the image.
        left: left <= x < right is what the model saw.
        top: top <= y < bottom is what the model saw.
        right: See left.
        bottom: See top.
        decoded_on_device: Whether the service's GPU has decoded the image. Its pixels deviate a little from those that
            a processor decodes.
    """

    image_width: int
    image_height: int
    left: float
    top: float
    right: float
    bottom: float
    decoded_on_device: bool = False


@dataclass(frozen=True)
class Estimate:
    """What a request would cost.

    Attributes:
        passes: Through the network; a forward pass and a backward pass count one each.
        response_bytes: Size of the answer.
        response_limit_bytes: Largest answer that the service gives.
    """

    passes: int
    response_bytes: int
    response_limit_bytes: int


@dataclass(frozen=True)
class ResolvedTarget:
    """The class that a map explains.

    Attributes:
        index: Its index among the outputs of the model.
        label: Its label.
        minus_index: For a contrast, the index of the class that was subtracted, else None.
        minus_label: For a contrast, the label of that class, else empty.
        region: Of a segmentation model: "predicted", "box", "pixel" or "mask", else empty.
        region_area: Share of the pixels of the model's input that the region has; None of a classifier.
        box: Of a detector: the box that is explained, in pixels of the uploaded image, else None.
        rank: The place of the detection among those found; None of a box that was given.
        score: The probability of the detection; None of a box that was given.
    """

    index: int
    label: str
    minus_index: int | None = None
    minus_label: str = ""
    region: str = ""
    region_area: float | None = None
    box: Box | None = None
    rank: int | None = None
    score: float | None = None

    def __str__(self) -> str:
        return self.label if self.minus_index is None else f"{self.label} - {self.minus_label}"


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """One saliency map. A notebook shows it as a picture.

    Attributes:
        method: The saliency method.
        target: The class that the map explains.
        array: (H, W), or (C, H, W) with reduction "none"; float32 or float16 as requested.
        minimum: The smallest value of `array`.
        maximum: The largest value of `array`.
        reduction: How channels became one value per pixel.
        size: "model" for the resolution of the model's input, "original" for that of the uploaded image.
        rectified: Number of activations whose backward pass the method changed (guided methods), else 0.
        caveats: What a reader of this map must know.
        parameters: The parameters in force by name, defaults included.
        measures: Figures by name that the method reports about itself; with `Saliency.faithfulness` also `deletion`
            and `insertion`, areas in [0, 1].
        view: The part of the image that the model saw, or None if that is not known.
    """

    method: str
    target: ResolvedTarget
    array: npt.NDArray[Any] = field(repr=False)
    minimum: float
    maximum: float
    reduction: Reduction
    size: Size
    rectified: int = 0
    caveats: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    measures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    view: View | None = field(default=None, repr=False)
    _upload: Upload | None = field(default=None, repr=False)

    def heatmap(self) -> PILImage.Image:
        """Draws the map alone. Needs Pillow.

        Returns:
            A picture of (H, W) pixels. Of channels that were kept it shows the largest magnitude.
        """
        return self._drawing().heatmap()

    def overlay(self, alpha: float = 0.8, longest: int = 2048) -> PILImage.Image:
        """Draws the map over the uploaded picture, which is grey below it. Needs Pillow.

        What the model did not see of the picture is faded. Maps of single pixels are smoothed a little, and maps of
        layers are enlarged smoothly; `array` has the values.

        Args:
            alpha: Opacity of the largest values, in [0, 1].
            longest: Most pixels along an edge. The result is as large as the picture, or larger where the map is
                finer, up to this limit.

        Raises:
            InvalidArgument: An argument is out of its range, or a normalised tensor was sent: there is no picture then.
        """
        return self._drawing().overlay(alpha, longest)

    def _drawing(self) -> Drawing:
        original = self.size == "original"
        if (view := self.view) is None:
            return Drawing(self.method, self.array, original, upload=self._upload)
        whole, box = (view.image_width, view.image_height), (view.left, view.top, view.right, view.bottom)
        return Drawing(self.method, self.array, original, whole, box, self._upload, self._boxes())

    def _boxes(self) -> tuple[boxes.Box, ...]:
        """What is drawn over the map: the box that it explains."""
        target, box = self.target, self.target.box
        if box is None:
            return ()
        return (boxes.Box((box.left, box.top, box.right, box.bottom), target.index, target.label, target.score),)

    def _repr_png_(self) -> bytes:
        return self._drawing().png()

    def _repr_html_(self) -> str:
        return self._drawing().html(f"{self.method}: {self.target}", self.caveats)


class SaliencyMaps(Sequence[SaliencyMap]):
    """All maps of an answer, in the order of the request: a sequence, and also by method: `maps["guided"]`.

    The name of a method gives its only map. It raises AmbiguousKey if there are several maps, of several targets for
    example; `all(name)` gives them in any case. It raises KeyError for a method that was not requested. `in` takes a
    name or a map.
    """

    def __init__(self, maps: Sequence[SaliencyMap]) -> None:
        self._maps = tuple(maps)

    def all(self, method: str) -> tuple[SaliencyMap, ...]:
        """Every map of this method, in the order of the request; empty if there is no such map."""
        return tuple(one for one in self._maps if one.method == method)

    def keys(self) -> tuple[str, ...]:
        """The methods, each once, in the order of the request."""
        return tuple(dict.fromkeys(one.method for one in self._maps))

    @overload
    def __getitem__(self, key: int | str) -> SaliencyMap: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[SaliencyMap, ...]: ...
    def __getitem__(self, key: int | str | slice) -> SaliencyMap | tuple[SaliencyMap, ...]:
        if not isinstance(key, str):
            return self._maps[key]
        matches = self.all(key)
        if not matches:
            raise KeyError(key)
        if len(matches) > 1:
            targets = ", ".join(str(one.target) for one in matches)
            raise AmbiguousKey(f"{key!r} fits {len(matches)} maps (of {targets}); use all({key!r}) or an index")
        return matches[0]

    def __contains__(self, key: object) -> bool:
        return any(one.method == key or one is key for one in self._maps)

    def __iter__(self) -> Iterator[SaliencyMap]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    def __repr__(self) -> str:
        return f"SaliencyMaps({', '.join(f'{one.method}: {one.target}' for one in self._maps)})"


@dataclass(frozen=True, eq=False)
class Explanation:
    """A prediction, best class first, with its saliency maps. A notebook shows it as a table with pictures.

    Attributes:
        model: The model that answered.
        labels: The labels of the K best classes.
        indices: (K,) int64, the indices of these classes.
        scores: (K,) float32, their probabilities.
        logits: (K,) float32, their logits.
        saliency: The saliency maps.
        timing: What the service spent.
        view: The part of the image that the model saw.
        skipped: Why saliency was requested and not computed, or empty.
        request_id: The id of the request.
        ledger: The entry of the service's log; None if none was asked for.
        segmentation: Of a segmentation model, whose `labels`, `indices`, `scores` and `logits` are empty; else None.
        detected: Of a detector, of which the same is empty; else None.
    """

    model: ModelInfo
    labels: tuple[str, ...]
    indices: npt.NDArray[np.int64] = field(repr=False)
    scores: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32] = field(repr=False)
    saliency: SaliencyMaps
    timing: Timing = field(repr=False)
    view: View = field(repr=False)
    skipped: str
    request_id: str
    ledger: LedgerEntry | None = None
    segmentation: Segmentation | None = None
    detected: Detections | None = None

    def _repr_html_(self) -> str:
        if self.detected is not None:
            found = ((each.label, each.score) for each in self.detected)
            return prediction_html(found, self.skipped, (one._repr_html_() for one in (self.detected, *self.saliency)))
        if self.segmentation is not None:
            shares = ((each.label, each.area) for each in self.segmentation.classes)
            pictures = [self.segmentation, *self.saliency]
            return prediction_html(shares, self.skipped, (one._repr_html_() for one in pictures))
        scores = zip(self.labels, self.scores.tolist(), strict=True)
        return prediction_html(scores, self.skipped, (one._repr_html_() for one in self.saliency))
