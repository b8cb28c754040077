"""Where layers keep their channels, and where their places of the image: found once per layer and size of input."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.saliency.engine.heads import Heads, answering
from ouzel.saliency.engine.taps import Taps


class Layouts:
    """Of the layers of one network. Safe to share between threads."""

    def __init__(self, network: nn.Module, taps: Taps, memory_format: torch.memory_format) -> None:
        self._network, self._taps, self._format = network, taps, memory_format
        self._layouts: dict[tuple[str, torch.Size, int], models.Layout | tuple[int, ...]] = {}
        self._lock = threading.Lock()

    def of(self, layer: str, x: Tensor, heads: Heads | None = None) -> models.Layout:
        """x: (B, C, H, W), of which one image is put through the network if need be. heads: that answers it, if shared.

        Raises InvalidArgument for a layer whose output cannot be told to be maps of the image.
        """
        key = layer, x.shape[1:], 0
        with self._lock:
            layout = self._layouts.get(key)
            if not isinstance(layout, models.Layout) and heads is not None:  # its shape may depend on the head's
                key = *key[:2], heads.width
                layout = self._layouts.get(key)
            if layout is None:
                layout = self._look(layer, x, heads)
                self._layouts[(*key[:2], 0) if isinstance(layout, models.Layout) else key] = layout
        if not isinstance(layout, models.Layout):
            raise InvalidArgument(
                f"layer: {layer!r} gives shape {layout} per image, in which no places of the image are found; "
                "needs (c, h, w), (h, w, c) or tokens of the whole image",
                field="layer",
            )
        return layout

    @torch.no_grad()
    def _look(self, layer: str, x: Tensor, heads: Heads | None) -> models.Layout | tuple[int, ...]:
        image = x[:1].clone(memory_format=self._format)
        with models.Tracker(image), self._taps.recording([layer]) as record, answering(heads):
            self._network(image)
        output = record[layer]
        assert output is not None, "a layer that the pass does not reach was refused before"
        return models.Tracker.layout(output) or tuple(output.shape[1:])
