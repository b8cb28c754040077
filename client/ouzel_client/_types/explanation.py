"""What comes back: plain frozen dataclasses over numpy arrays. Arrays are read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from ouzel_client._codec.images import Upload
from ouzel_client._display import explanation
from ouzel_client._types.saliency import Reduction, Size
from ouzel_client.errors import AmbiguousKey

if TYPE_CHECKING:
    from PIL import Image as PILImage


@dataclass(frozen=True)
class ModelInfo:
    """The model that answered. digest: "sha256:..." of its weights."""

    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class Timing:
    """Milliseconds that the service spent on the batch which the request was part of, and that batch's size."""

    decode_ms: float
    compute_ms: float
    total_ms: float
    batch_size: int


@dataclass(frozen=True)
class View:
    """What the model saw, in pixels of the uploaded image, upright: left <= x < right, top <= y < bottom."""

    image_width: int
    image_height: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Estimate:
    """What a request would cost. passes: through the network, a forward or a backward counts one."""

    passes: int
    response_bytes: int
    response_limit_bytes: int


@dataclass(frozen=True)
class ResolvedTarget:
    """The class that a map explains; `minus` is set for a contrast: the class that was subtracted."""

    index: int
    label: str
    minus_index: int | None = None
    minus_label: str = ""

    def __str__(self) -> str:
        return self.label if self.minus_index is None else f"{self.label} - {self.minus_label}"


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """One map. It shows itself in a notebook.

    array: (H, W), or (C, H, W) with reduction "none"; float32 or float16 as asked. minimum, maximum: of array.
    rectified: activations whose backward pass the method changed (guided methods), else 0. caveats: what a reader of
    this map must know. parameters: those in force, defaults included. measures: figures that the method reports of
    itself.
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
        """The map as a picture, (H, W) pixels. Channels that were kept show their largest magnitude. Needs Pillow."""
        return explanation.heatmap(self)

    def overlay(self, alpha: float = 0.8, longest: int = 2048) -> PILImage.Image:
        """The map over the uploaded picture, which lies beneath in grey; what the model did not see of it is faded.

        As large as the picture, or larger where the map is finer, but no more than `longest` pixels along an edge. Maps
        of single pixels are smoothed a little, those of layers widened smoothly; `array` has the values. alpha: opacity
        of the largest values, in [0, 1]. Needs Pillow. Raises InvalidArgument if a normalised tensor was sent: there is
        no picture then.
        """
        return explanation.overlay(self, self._upload, alpha, longest)

    def _repr_png_(self) -> bytes:
        return explanation.png(explanation.best(self, self._upload))

    def _repr_html_(self) -> str:
        return explanation.map_html(self, self._upload)


class SaliencyMaps(Sequence[SaliencyMap]):
    """All maps of an answer, in the order asked for; also by method: `maps["guided"]`.

    A method's name gives its only map. If there are several (several targets, say), it raises AmbiguousKey; `all(name)`
    gives them in any case. A method that was not asked for raises KeyError. `in` takes a name or a map.
    """

    def __init__(self, maps: Sequence[SaliencyMap]) -> None:
        self._maps = tuple(maps)

    def all(self, method: str) -> tuple[SaliencyMap, ...]:
        """Every map of this method, in the order asked for; empty if there is none."""
        return tuple(one for one in self._maps if one.method == method)

    def keys(self) -> tuple[str, ...]:
        """The methods, each once, in the order asked for."""
        return tuple(dict.fromkeys(one.method for one in self._maps))

    @overload
    def __getitem__(self, key: int | str) -> SaliencyMap: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[SaliencyMap, ...]: ...
    def __getitem__(self, key: int | str | slice) -> SaliencyMap | tuple[SaliencyMap, ...]:
        if not isinstance(key, str):
            return self._maps[key]
        found = self.all(key)
        if not found:
            raise KeyError(key)
        if len(found) > 1:
            targets = ", ".join(str(one.target) for one in found)
            raise AmbiguousKey(f"{key!r} fits {len(found)} maps (of {targets}); use all({key!r}) or an index")
        return found[0]

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
    """A prediction, best class first, with its saliency maps. It shows itself in a notebook.

    labels: K texts; indices: (K,) int64; scores: (K,) float32, probabilities; logits: (K,) float32. skipped: why
    saliency was asked for and not computed, or empty.
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

    def _repr_html_(self) -> str:
        return explanation.explanation_html(self)
