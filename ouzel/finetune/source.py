"""The images that a training learns from: on the device once they are decoded, or decoded ahead batch by batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ouzel.finetune.data import Example
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.variation import Pixels
from ouzel.saliency.transfer import sent

_TOGETHER = 256  # images that are sent to the device at a time


@dataclass
class Source:
    """Whole images, by their place among the examples.

    Attributes:
        pictures: Decodes them.
        examples: The images.
        device: Where they are wanted.
    """

    pictures: Pictures
    examples: Sequence[Example]
    device: torch.device
    _held: tuple[Pixels, np.ndarray] | None = None

    def batches(self, rows: Sequence[Tensor]) -> Generator[tuple[Pixels, np.ndarray], None, None]:
        """Images on the device, and (B, 2) of their heights and widths, of each batch in turn.

        They are decoded the first time, and again each time if `pictures` has no room to keep them all. Close it to end
        decoding.
        """
        if self._held is None and (whole := self.pictures.take_whole(self.examples)) is not None:
            self._held = _on_device(whole, self.device)
        if self._held is None:
            with closing(
                self.pictures.whole([[self.examples[row] for row in batch.tolist()] for batch in rows])
            ) as all_:
                for images in all_:
                    yield _on_device(images, self.device)
            return
        pixels, sizes = self._held
        for batch in rows:
            yield Pixels(pixels.values, pixels.places[sent(batch, self.device)]), sizes[batch.numpy()]


def _on_device(images: list[Tensor], device: torch.device) -> tuple[Pixels, np.ndarray]:
    """images: (h, w, C) uint8 each; the list is emptied as they are copied."""
    sizes = np.array([each.shape[:2] for each in images])
    areas = sizes.prod(1)
    places = torch.from_numpy(np.stack([areas.cumsum() - areas, sizes[:, 1]], 1))
    values = torch.empty(int(areas.sum()), images[0].shape[2], dtype=torch.uint8, device=device)
    filled = 0
    while images:
        part = torch.cat([each.flatten(0, 1) for each in images[:_TOGETHER]])
        del images[:_TOGETHER]
        values[filled : filled + len(part)].copy_(sent(part, device))
        filled += len(part)
    return Pixels(values, sent(places, device)), sizes
