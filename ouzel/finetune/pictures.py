"""From examples to tensors: as the model will be fed when it is served, and whole, to be varied for training."""

from __future__ import annotations

import io
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.finetune.data import Example
from ouzel.images import original_size, scaled
from ouzel.models import Preprocessing
from ouzel.models.preprocessing import INTERPOLATIONS

_AHEAD = 2  # batches that are decoded while one is worked on
_Key = tuple[str, bool]  # content, and whether whole
_Made = Future[dict[_Key, Tensor]]
LabelMapOf = Callable[[Example, tuple[int, int]], np.ndarray]  # of an image of (width, height): (H, W) uint8


@dataclass
class Pictures:
    """Decodes examples, several at a time, and keeps what fits into `budget` bytes. One per training.

    There are two forms of an image, both of uint8. Served: (C, H, W), exactly what the model sees of it. Whole: (h, w,
    C), its shorter side as long as `preprocessing.resize`; crops are cut out of that for training. More would be finer
    than what is served, and four times as much to keep.

    With `label_map`, both forms have one channel more, the last: the class of each pixel, resized to the nearest.
    """

    preprocessing: Preprocessing
    budget: int = 2 * 2**30
    label_map: LabelMapOf | None = None
    _kept: dict[_Key, Tensor] = field(default_factory=dict)
    _both: frozenset[str] = frozenset()
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(thread_name_prefix="ouzel-pictures")

    def close(self) -> None:
        """End its threads."""
        self._threads.shutdown(cancel_futures=True)

    def expect(self, examples: Iterable[Example]) -> None:
        """These will be wanted whole, too: while there is room, both forms are made when one is decoded."""
        self._both = frozenset(each.sha256 for each in examples)

    def as_served(self, examples: Sequence[Example], mirrored: bool = False) -> Tensor:
        """(B, C, H, W) float32, normalised."""
        (pixels,) = self.served([examples])
        return self.preprocessing.normalised(pixels.flip(-1) if mirrored else pixels)

    def served(self, batches: Iterable[Sequence[Example]]) -> Generator[Tensor, None, None]:
        """(B, C, H, W) uint8 of each batch. The next ones are decoded meanwhile; close it to end that."""
        with closing(self._decoded(batches, whole=False)) as decoded:
            for tensors in decoded:
                yield torch.stack(tensors)

    def whole(self, batches: Iterable[Sequence[Example]]) -> Generator[list[Tensor], None, None]:
        """Each image of each batch, (h, w, C) uint8. As `served`."""
        return self._decoded(batches, whole=True)

    def take_whole(self, examples: Sequence[Example]) -> list[Tensor] | None:
        """All of them, which are not kept here any more; None if some are not decoded yet, or did not fit."""
        keys = [(each.sha256, True) for each in examples]
        if not all(key in self._kept for key in keys):
            return None
        taken = [self._kept[key] for key in keys]
        for key in set(keys):
            self._bytes -= self._kept.pop(key).nbytes
        self._both = frozenset()
        return taken

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

    def _decoded(self, batches: Iterable[Sequence[Example]], *, whole: bool) -> Generator[list[Tensor], None, None]:
        left, waiting = iter(batches), deque[Sequence[Example]]()
        asked: dict[str, _Made] = {}
        try:
            while True:
                while len(waiting) <= _AHEAD and (batch := next(left, None)) is not None:
                    waiting.append(batch)
                    self._ask(batch, whole, asked)
                if not waiting:
                    return
                yield self._tensors(waiting.popleft(), whole, asked)
        finally:
            for future in asked.values():
                future.cancel()

    def _ask(self, batch: Sequence[Example], whole: bool, asked: dict[str, _Made]) -> None:
        for each in batch:
            if (each.sha256, whole) not in self._kept and each.sha256 not in asked:
                asked[each.sha256] = self._threads.submit(self._decode, each, self._forms(each, whole))

    def _forms(self, example: Example, whole: bool) -> tuple[bool, ...]:
        both = example.sha256 in self._both and (example.sha256, True) not in self._kept
        return (False, True) if both and not whole and self._bytes < self.budget else (whole,)

    def _tensors(self, batch: Sequence[Example], whole: bool, asked: dict[str, _Made]) -> list[Tensor]:
        made: dict[_Key, Tensor] = {}
        for each in batch:
            key = each.sha256, whole
            if key not in made and key not in self._kept:
                # Not asked for: it was when this batch was looked at, for the one before, which had no room to keep it.
                future = asked.pop(each.sha256, None)
                made |= self._decode(each, (whole,)) if future is None else future.result()
        keys = [(each.sha256, whole) for each in batch]
        tensors = [made[key] if key in made else self._kept[key] for key in keys]
        for key, pixels in made.items():
            if key not in self._kept and self._bytes + pixels.nbytes <= self.budget:
                self._kept[key] = pixels
                self._bytes += pixels.nbytes
        return tensors

    def _decode(self, example: Example, forms: Sequence[bool]) -> dict[_Key, Tensor]:
        labels = None
        try:
            image = models.decode(example.read(), smallest=self.preprocessing.resize)
            if self.label_map is not None:
                labels = Image.fromarray(self.label_map(example, original_size(image)))
        except InvalidArgument as error:
            raise InvalidArgument(f"data: {example.name}: {error}", field="data") from None
        return {(example.sha256, form): self._form(image, labels, form) for form in forms}

    def _form(self, image: Image.Image, labels: Image.Image | None, whole: bool) -> Tensor:
        if not whole:
            pixels = self.preprocessing.pixels(image)
            return pixels if labels is None else torch.cat([pixels, self._served_labels(labels)])
        share = self.preprocessing.resize / min(image.size)
        size = (round(image.width * share), round(image.height * share))
        image = image.resize(size, INTERPOLATIONS[self.preprocessing.interpolation])
        values = np.array(image.convert("L" if self.preprocessing.channels == 1 else "RGB"))
        values = values.reshape(size[1], size[0], -1)
        if labels is not None:
            resized = np.array(labels.resize(size, Image.Resampling.NEAREST))
            values = np.concatenate([values, resized[:, :, None]], 2)
        return torch.from_numpy(values)

    def _served_labels(self, labels: Image.Image) -> Tensor:
        height, width = self.preprocessing.input_size
        view = self.preprocessing.view(*labels.size)
        return torch.from_numpy(np.array(labels.resize((width, height), Image.Resampling.NEAREST, box=view)))[None]


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
