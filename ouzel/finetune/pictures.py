"""From examples to tensors: as the model will be fed when it is served, and varied for training."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import InterpolationMode

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.finetune.data import Example
from ouzel.finetune.recipes import Recipe
from ouzel.models import Preprocessing
from ouzel.models.images import scaled
from ouzel.models.preprocessing import INTERPOLATIONS

_BUDGET = 2 * 2**30  # bytes of decoded images that are kept


@dataclass
class Pictures:
    """Decodes examples, several at a time, and keeps what fits into `budget` bytes. One per training."""

    preprocessing: Preprocessing
    budget: int = _BUDGET
    _kept: dict[tuple[str, bool], Tensor] = field(default_factory=dict)
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(thread_name_prefix="ouzel-decode")

    def close(self) -> None:
        """End its threads."""
        self._threads.shutdown()

    def as_served(self, examples: Sequence[Example], mirrored: bool = False) -> Tensor:
        """(B, C, H, W) float32, normalised."""
        pixels = torch.stack(self._get(examples, whole=False))
        return self.preprocessing.normalised(pixels.flip(-1) if mirrored else pixels)

    def varied(self, examples: Sequence[Example], vary: v2.Transform) -> Tensor:
        """(B, C, H, W) float32, normalised, each image varied by itself. Draws from torch's own generator."""
        return self.preprocessing.normalised(torch.stack([vary(pixels) for pixels in self._get(examples, whole=True)]))

    def shown(self, example: Example, edge: int) -> np.ndarray:
        """What the model sees, for people to look at, as finely as the file has it.

        Args:
            example: To be shown.
            edge: Pixels along the longer edge.

        Returns:
            (H, W, 3) uint8.
        """
        height, width = self.preprocessing.input_size
        share = edge / max(height, width)
        image = models.decode(example.read(), smallest=math.ceil(self.preprocessing.resize * share))
        if self.preprocessing.channels == 1:
            image = image.convert("L")
        size = (max(1, round(width * share)), max(1, round(height * share)))
        view = self.preprocessing.view(*image.size)
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC, box=view))

    def mask(self, example: Example) -> Tensor | None:
        """(H, W) of bool, True on the object, as far as the model sees it."""
        if example.read_mask is not None:
            image = models.decode(example.read_mask()).convert("L")
        elif example.boxes:
            seen = models.decode(example.read(), smallest=self.preprocessing.resize)
            image = Image.new("L", seen.size)
            image.info = seen.info  # its original size
            for box in example.boxes:
                left, top, right, bottom = scaled(box, seen)
                image.paste(255, (round(max(left, 0)), round(max(top, 0)), round(right), round(bottom)))
        else:
            return None
        height, width = self.preprocessing.input_size
        view = scaled(self.preprocessing.view(*models.original_size(image)), image)
        return torch.tensor(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=view)) > 127)

    def _get(self, examples: Sequence[Example], *, whole: bool) -> list[Tensor]:
        keys = [(each.sha256, whole) for each in examples]
        new = {key: each for key, each in zip(keys, examples, strict=True) if key not in self._kept}
        decoded = dict(zip(new, self._threads.map(lambda each: self._decoded(each, whole), new.values()), strict=True))
        tensors = [self._kept[key] if key in self._kept else decoded[key] for key in keys]
        for key, pixels in decoded.items():
            if self._bytes + pixels.nbytes <= self.budget:
                self._kept[key] = pixels
                self._bytes += pixels.nbytes
        return tensors

    def _decoded(self, example: Example, whole: bool) -> Tensor:
        try:
            image = models.decode(example.read(), smallest=self.preprocessing.resize)
        except InvalidArgument as error:
            raise InvalidArgument(f"data: {example.name}: {error}", field="data") from None
        if not whole:
            return self.preprocessing.pixels(image)
        share = self.preprocessing.resize / min(image.size)
        size = (round(image.width * share), round(image.height * share))
        image = image.resize(size, INTERPOLATIONS[self.preprocessing.interpolation])
        values = np.array(image.convert("L" if self.preprocessing.channels == 1 else "RGB"))
        return torch.from_numpy(values.reshape(size[1], size[0], -1)).permute(2, 0, 1)


def variation(recipe: Recipe, preprocessing: Preprocessing) -> v2.Transform:
    """What training does to an image (C, H, W) of uint8, so that it is of the model's size in the end."""
    interpolation = InterpolationMode(preprocessing.interpolation)
    steps: list[v2.Transform] = []
    if recipe.crop < 1:
        ratio = (3 / 4, 4 / 3)
        steps.append(
            v2.RandomResizedCrop(
                preprocessing.input_size, (recipe.crop, 1.0), ratio, interpolation=interpolation, antialias=True
            )
        )
    else:
        steps.append(v2.CenterCrop(preprocessing.input_size))
    if recipe.flip:
        steps.append(v2.RandomHorizontalFlip())
    if recipe.color:
        saturation = recipe.color if preprocessing.channels == 3 else 0
        steps.append(v2.ColorJitter(recipe.color, recipe.color, saturation))
    return v2.Compose(steps)


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
