"""What a caller can request to be explained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from ouzel_client._types.regions import Region
from ouzel_client.errors import InvalidArgument

Class: TypeAlias = int | str
Reduction = Literal["max_abs", "sum_abs", "signed_sum", "none"]
Size = Literal["model", "original"]
DType = Literal["float32", "float16"]

REDUCTIONS, SIZES, DTYPES = get_args(Reduction), get_args(Size), get_args(DType)


@dataclass(frozen=True)
class Contrast:
    """A target: why class `a` and not class `b`.

    Attributes:
        a: The class whose logit counts: an index or a text, as in `Saliency.target`.
        b: The class whose logit is subtracted.
    """

    a: Class
    b: Class


@dataclass(frozen=True)
class Top:
    """A target: the best classes of the prediction, one map for each.

    Attributes:
        count: How many classes, at least 1.
    """

    count: int


@dataclass(frozen=True)
class Rank:
    """The class at this place of the prediction; of a detector, the detection.

    Attributes:
        place: 0 is the best.
    """

    place: int = 0


@dataclass(frozen=True)
class Within:
    """A class over a part of the image, of a segmentation model; or in a box, of a detector.

    Without a region a segmentation model's class is explained over the pixels that the model gives to it. A detector
    explains a class in a Box whether or not it finds it there, with the method "d_rise".

    Attributes:
        target: An index, a text, Rank, Contrast or Top, as in `Saliency.target`. None is the class with the most pixels
            in the region.
        region: Box, Pixel or a mask: a Path or the bytes of a PNG file of grey levels, a PIL image, or an array uint8
            or bool (H, W), of the size of the uploaded image.
    """

    target: int | str | Rank | Contrast | Top | None
    region: Region


Target: TypeAlias = int | str | Rank | Contrast | Top | Within | None


@dataclass(frozen=True)
class When:
    """Conditions on the prediction. Saliency is computed only if all of them hold.

    Attributes:
        score_below: The probability of the predicted class is less than this, in [0, 1]. For a model with one logit, it
            is the probability of its one class.
        entropy_above: The entropy of the probabilities is more than this, in nats.
        labels: The predicted class is one of these: texts as in `Saliency.target`. Empty sets no condition.

    Raises:
        InvalidArgument: `labels` is a text instead of a tuple.
    """

    score_below: float | None = None
    entropy_above: float | None = None
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            raise InvalidArgument("when.labels: give a tuple of labels, not one text", field="when.labels")
        object.__setattr__(self, "labels", tuple(self.labels))


@dataclass(frozen=True, init=False)
class Saliency:
    """One saliency map to compute: `Saliency("grad_cam", layer="blocks.6")`.

    Args:
        method: Name of the method: "guided", "grad_cam", "integrated_gradients", ...
        target: None for the predicted class (or the default of the call), an index, a text, Rank, Contrast, Top or
            Within. A text is a label. Digits that are not a label of the model are an index; "label:1" and "index:1"
            say which is meant. The predicted class of a segmentation model is the one with the largest area, but the
            background; of a detector it is the most probable detection.
        reduction: How channels become one value per pixel: "max_abs", "sum_abs", "signed_sum", or "none", which keeps
            the channels. None leaves it to the method.
        size: "model" for the resolution of the model's input, "original" for that of the uploaded image.
        dtype: "float32" or "float16", of the map.
        faithfulness: Steps of the curves by which the map's faithfulness is measured, 2 to 64; `measures` of the map
            then has `deletion` and `insertion`, the areas under them. 0 measures nothing. It takes two further passes
            through the network for each step.
        **parameters: Parameters of the method by name: numbers, texts, flags. One that is an image, such as the
            baseline of integrated_gradients, is a Path (a text is a name), the bytes of a file, a PIL image, or an
            array as `explain` takes it. The service preprocesses it like the image itself.

    Raises:
        InvalidArgument: `reduction`, `size` or `dtype` is not one of its values.
    """

    method: str
    target: Target
    reduction: Reduction | None
    size: Size
    dtype: DType
    faithfulness: int
    _parameters: tuple[tuple[str, Any], ...]

    def __init__(
        self,
        method: str,
        target: Target = None,
        reduction: Reduction | None = None,
        size: Size = "model",
        dtype: DType = "float32",
        *,
        faithfulness: int = 0,
        **parameters: Any,
    ) -> None:
        for name, value, choices in (
            ("reduction", reduction, (*REDUCTIONS, None)),
            ("size", size, SIZES),
            ("dtype", dtype, DTYPES),
        ):
            if value not in choices:
                allowed = ", ".join(choice for choice in choices if choice)
                raise InvalidArgument(f"{name}: {value!r} is not one of {allowed}", field=name)
        fields = {"method": method, "target": target, "reduction": reduction, "size": size, "dtype": dtype}
        fields["faithfulness"] = faithfulness
        for name, field in {**fields, "_parameters": tuple(sorted(parameters.items()))}.items():
            object.__setattr__(self, name, field)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters of the method, by name."""
        return MappingProxyType(dict(self._parameters))


SaliencyInput: TypeAlias = str | Saliency | Iterable[str | Saliency]


class ExplainOptions(TypedDict, total=False):
    """Options that several methods of a model share.

    Attributes:
        saliency: Methods by name, or `Saliency` objects; one or several.
        target: The target of the methods without a target of their own. None, the default, is the predicted class.
        top_k: How many classes to return, at least 1. None, the default, leaves it to the service.
        when: Compute saliency only if this holds.
        record: Whether the answer becomes an entry of the service's log before it leaves.
        label_map_size: Of a segmentation model: "model" for the resolution of the model's input, "original" for that
            of the uploaded image. None, the default, is "model", and right for every model.
        min_score: Of a detector: detections that are less probable are left out, in [0, 1]. None, the default, is the
            network's own threshold.
    """

    saliency: SaliencyInput
    target: Target
    top_k: int | None
    when: When | None
    record: bool
    label_map_size: Size | None
    min_score: float | None
