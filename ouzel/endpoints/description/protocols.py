"""How endpoints of each kind are asked, as the operator's file says it. No torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from ouzel.checks import one_of, within
from ouzel.endpoints.description.json_path import JsonPath
from ouzel.errors import InvalidArgument

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # part of a path: no slash, no percent sign


@dataclass(frozen=True)
class TensorInput:
    """How a picture becomes the tensor of a service: (value * scale - mean) / std, in the layout and datatype.

    Attributes:
        layout: "NCHW" or "NHWC".
        datatype: "FP32", or "UINT8" for the values as they are.
        scale: Factor of the values of 0..255; None for UINT8.
        mean: One number, or one for each channel; empty for UINT8.
        std: As `mean`, above 0.
        channels: Order of the colours, "RGB" or "BGR". `mean` and `std` have the same order.
        name: Of the input; empty if the service has one only.
    """

    layout: str
    datatype: str
    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: str = "RGB"
    name: str = ""

    def __post_init__(self) -> None:
        one_of("input.layout", self.layout, ("NCHW", "NHWC"))
        one_of("input.datatype", self.datatype, ("FP32", "UINT8"))
        one_of("input.channels", self.channels, ("RGB", "BGR"))
        values: dict[str, Any] = {"scale": self.scale, "mean": self.mean, "std": self.std}
        for key, value in values.items():
            path, given = f"input.{key}", value is not None and value != ()
            if given and self.datatype == "UINT8":
                raise InvalidArgument(f"{path}: is for FP32; a service that takes UINT8 normalises itself", field=path)
            if not given and self.datatype == "FP32":
                raise InvalidArgument(
                    f"{path}: missing; the protocol does not say how a service wants its values normalised, so it "
                    f"must be stated: tensor = (value of 0..255 * scale - mean) / std",
                    field=path,
                )
        for path, numbers in (("input.mean", self.mean), ("input.std", self.std)):
            if len(numbers) not in (0, 1, 3) or not all(math.isfinite(number) for number in numbers):
                raise InvalidArgument(f"{path}: {list(numbers)!r:.80} is not 1 or 3 finite numbers", field=path)
        if self.std and min(self.std) <= 0:
            raise InvalidArgument(f"input.std: {min(self.std):g} is not above 0", field="input.std")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise InvalidArgument(f"input.scale: {self.scale:g} is not a finite number above 0", field="input.scale")


@dataclass(frozen=True)
class Oip:
    """A model behind the Open Inference Protocol (version 2).

    Attributes:
        model: Its name at the service.
        input: The tensor that it takes.
        scores: What it answers: "logits" or "probabilities".
        version: At the service; empty is the version that the service chooses.
        output: Name of the output with the scores; empty if the service has one only.
        transfer: "json" or "binary" (the extension for binary tensors) over REST; gRPC is always binary.
        batch: Pictures in one request, at most; 1..64. A service that takes one only gets one.
    """

    model: str
    input: TensorInput
    scores: str
    version: str = ""
    output: str = ""
    transfer: str = "json"
    batch: int = 8

    def __post_init__(self) -> None:
        check_model("model", self.model)
        if self.version:
            check_model("version", self.version)
        _check_scores("output.scores", self.scores)
        one_of("transfer", self.transfer, ("json", "binary"))
        within("batch", self.batch, 1, 64)


@dataclass(frozen=True)
class ImageInput:
    """How a picture is written as a file.

    Attributes:
        format: "png", which keeps every value, or "jpeg", which changes values a little.
        quality: Of a JPEG, 50..100.
    """

    format: str = "png"
    quality: int = 95

    def __post_init__(self) -> None:
        one_of("input.format", self.format, ("png", "jpeg"))
        within("input.quality", self.quality, 50, 100)


@dataclass(frozen=True)
class TorchServe:
    """A model of a TorchServe, over REST.

    Attributes:
        model: Its name at the service.
        version: At the service; empty is the default one.
        input: How pictures are sent: as the whole body.
        handler: Whose answers it gives: "image_classifier" of TorchServe (label and probability of the best classes) or
            "ouzel".
    """

    model: str
    version: str = ""
    input: ImageInput = field(default_factory=ImageInput)
    handler: str = "image_classifier"

    def __post_init__(self) -> None:
        check_model("model", self.model)
        if self.version:
            check_model("version", self.version)
        one_of("handler", self.handler, ("image_classifier", "ouzel"))


@dataclass(frozen=True)
class HttpJson:
    """A service that takes an image by POST and answers with JSON.

    Attributes:
        scores: What it answers: "logits" or "probabilities".
        image: Where the image goes: the whole "body", a "multipart" field, or "json" (in base64).
        form: Of the scores: "array" in the order of the labels, "mapping" {label: score}, or "list" of
            {label, score}.
        path: Of the scores in the answer.
        input: How pictures are written.
        form_field: Name of the multipart field.
        place: Of the image in the JSON body.
        prefix: Written before the base64, as in "data:image/png;base64,".
        body: The fixed rest: of the JSON body, or text fields of the form.
        label_key: Of the label in an entry of a "list".
        score_key: Of the score in an entry of a "list".
        partial: Whether the answer may leave out classes, whose probability counts as 0.
        version: Of the model, as the operator states it.
    """

    scores: str
    image: str
    form: str
    path: JsonPath = field(default_factory=JsonPath)
    input: ImageInput = field(default_factory=ImageInput)
    form_field: str = ""
    place: JsonPath = field(default_factory=JsonPath)
    prefix: str = ""
    body: dict[str, Any] = field(default_factory=dict, repr=False)
    label_key: str = "label"
    score_key: str = "score"
    partial: bool = False
    version: str = ""

    def __post_init__(self) -> None:
        _check_scores("output.scores", self.scores)
        one_of("input.image", self.image, ("body", "multipart", "json"))
        one_of("output.form", self.form, ("array", "mapping", "list"))
        if self.partial and (self.form == "array" or self.scores == "logits"):
            raise InvalidArgument(
                f"output.partial: the answer names {self.scores} as {self.form}; classes can be left out of "
                f"probabilities with their labels only",
                field="output.partial",
            )
        if self.version:
            check_model("version", self.version)
        self._check_place()

    def _check_place(self) -> None:
        if self.image == "multipart" and not self.form_field:
            raise InvalidArgument("input.field: missing; name the form's field for the image", field="input.field")
        if self.image == "json":
            if not self.place.steps:
                raise InvalidArgument("input.path: missing; say where the image goes in the body", field="input.path")
            self.place.put(self.body, "")
        if self.image == "body" and self.body:
            raise InvalidArgument("input.body: the image is the whole body already", field="input.body")
        texts = all(isinstance(value, str) for value in self.body.values())
        if self.image == "multipart" and (not texts or self.form_field in self.body):
            raise InvalidArgument(
                "input.body: fields of a form are strings, beside the one of the image", field="input.body"
            )


def check_model(path: str, name: str) -> None:
    """Refuses a name that cannot be part of a path."""
    if not _MODEL.fullmatch(name) or ".." in name:
        raise InvalidArgument(
            f"{path}: {name!r:.80} is not 1 to 128 letters, digits and . _ - that begin with a letter or digit",
            field=path,
        )


def _check_scores(path: str, scores: str) -> None:
    if not scores:
        raise InvalidArgument(
            f'{path}: missing; state whether the service answers with "logits" or "probabilities"', field=path
        )
    one_of(path, scores, ("logits", "probabilities"))
