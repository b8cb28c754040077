"""Random numbers of methods: drawn on the CPU from a seed, the same for every device, and kept where they are used.

Drawing takes a millisecond for an image of 224 pixels, and sending it item by item a wait each. Whoever asks twice with
one seed gets what was drawn before. Callers choose seeds and sizes, so what is kept is bounded.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ouzel.saliency.transfer import sent

KEPT_BYTES = 32 * 2**20  # in all; 16 samples at 224 pixels are 9.6 MB


@dataclass(frozen=True)
class Drawing:
    """What is drawn.

    Attributes:
        key: What `draw` depends on, beside the generator.
        seed: Of the generator.
        count: How many items.
        shape: Of an item.
        draw: Draws one on the CPU.
    """

    key: Hashable
    seed: int
    count: int
    shape: tuple[int, ...]
    draw: Callable[[torch.Generator], Tensor] = field(compare=False)


class Draws:
    """Drawn items, the least recently used dropped first. Safe to share between threads.

    Args:
        most_bytes: That are kept, on all devices together.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def blocks(self, drawing: Drawing, like: Tensor, size: int) -> Iterator[Tensor]:
        """The items in order.

        Args:
            drawing: What they are.
            like: A tensor whose device and dtype they get; images (n, C, H, W) get its memory format too.
            size: Items in a block, at most.

        Yields:
            (at most `size`, ...) blocks; they are shared and must not be written to.
        """
        generator = torch.Generator().manual_seed(drawing.seed)
        if drawing.count * torch.Size(drawing.shape).numel() * like.element_size() > self._most:
            for start in range(0, drawing.count, size):
                yield _drawn(drawing, generator, min(size, drawing.count - start), like)
            return
        key = (drawing, like.device, like.dtype, _is_channels_last(like))
        with self._lock:
            items = self._kept.pop(key, None)
        if items is None:
            items = _drawn(drawing, generator, drawing.count, like)
        with self._lock:
            self._kept[key] = items  # as the latest
            while sum(tensor.nbytes for tensor in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        yield from items.split(size)


@torch.inference_mode(False)
def _drawn(drawing: Drawing, generator: torch.Generator, count: int, like: Tensor) -> Tensor:
    items = torch.stack([drawing.draw(generator) for _ in range(count)])
    form = torch.channels_last if _is_channels_last(like) else torch.contiguous_format
    return sent(items, like.device).to(like.dtype, memory_format=form)


def _is_channels_last(like: Tensor) -> bool:
    return like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)


draws = Draws()  # of the process
