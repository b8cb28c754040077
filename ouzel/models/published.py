"""How libraries feed the weights that they publish, where that is not one answer for an architecture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ouzel.models.preprocessing import Preprocessing


def way_of(transforms: Any) -> Preprocessing:
    """The preprocessing that transforms for classifiers, as torchvision publishes them, amount to."""
    return Preprocessing(
        input_size=(transforms.crop_size[0], transforms.crop_size[0]),
        resize=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def ways_of_torchvision(name: str) -> Mapping[str, Preprocessing]:
    """How torchvision feeds each of its weights of a classifier, by the names of these; the default ones come first."""
    from torchvision import models

    published = models.get_model_weights(name)
    each = sorted(published, key=lambda weights: weights is not published.DEFAULT)
    return {weights.name: way_of(weights.transforms()) for weights in each}


def of_torchvision(name: str, file: str | Path) -> str | None:
    """Which of torchvision's weights of a classifier a file is.

    Args:
        name: Of the architecture.
        file: Of the weights. It may have any name: torchvision tells the first digits of the SHA-256 of its files.

    Returns:
        The name of the weights; None if they are not torchvision's, or were saved again.
    """
    from torchvision import models

    if not Path(file).is_file():
        return None
    with Path(file).open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    for weights in models.get_model_weights(name):
        told = weights.url.rpartition("-")[2].partition(".")[0]
        if len(told) >= 8 and digest.startswith(told):
            return str(weights.name)
    return None


def way_of_torchvision(name: str, file: str | Path) -> Preprocessing:
    """How torchvision feeds the weights of a classifier that a file holds; its default way for what is not its own."""
    ways = ways_of_torchvision(name)
    own = of_torchvision(name, file) if _differ(ways) else None
    return ways[own] if own else next(iter(ways.values()))


def doubt_of_torchvision(name: str, file: str | Path) -> str:
    """That the weights could be fed in several ways, in sentences; "" if there is one way, or it is known."""
    ways = ways_of_torchvision(name)
    if not _differ(ways) or of_torchvision(name, file):
        return ""
    told = "; ".join(
        f"{each}: --input-size {way.input_size[0]} {way.input_size[1]} --resize {way.resize} "
        f"--interpolation {way.interpolation}"
        for each, way in ways.items()
    )
    return (
        f"torchvision publishes several weights of {name}, and this file is none of its own. They are fed as the first "
        f"of these, unless options say so: {told}."
    )


def doubt_of_timm(name: str) -> str:
    """That timm shows its weights the whole image, stretched to a square, which is not done here; "" if it does not."""
    import timm

    own = timm.get_pretrained_cfg(name)
    if own is None or own.crop_mode != "squash":
        return ""
    return (
        f"timm stretches images to a square for its own weights of {name}. Here the middle of an image is cut out, so "
        "images that are no squares look different."
    )


def _differ(ways: Mapping[str, Preprocessing]) -> bool:
    return len(set(ways.values())) > 1
