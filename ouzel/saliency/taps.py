"""Outputs of named layers, per call: what Grad-CAM and its kin look at.

A layer gets one permanent forward hook, on the engine's own copy of the network. The hook does nothing unless the
calling thread is inside `recording`, so that concurrent calls never see each other's tensors.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from ouzel.errors import NotFound

_recording: ContextVar[dict[str, Tensor | None] | None] = ContextVar("ouzel_recording", default=None)


class Taps:
    """The tapped layers of one network."""

    def __init__(self, network: nn.Module) -> None:
        self._modules = dict(network.named_modules())
        self._tapped: set[str] = set()
        self._lock = threading.Lock()

    def check(self, layer: str) -> None:
        """Raises NotFound if the network has no layer of that name."""
        if not layer or layer not in self._modules:
            close = difflib.get_close_matches(layer, self._modules, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise NotFound(f"layer: the model has no layer {layer!r}{hint}", field="layer")

    def add(self, layer: str) -> None:
        """Tap a layer by its name. Raises NotFound if the network has none of that name."""
        self.check(layer)
        with self._lock:
            if layer not in self._tapped:
                self._modules[layer].register_forward_hook(_hook(layer))
                self._tapped.add(layer)

    @contextmanager
    def recording(self, layers: Iterable[str]) -> Iterator[dict[str, Tensor | None]]:
        """Record the outputs of `layers` during the forward pass of this thread."""
        record: dict[str, Tensor | None] = dict.fromkeys(layers)
        for layer in record:
            self.add(layer)
        token = _recording.set(record)
        try:
            yield record
        finally:
            _recording.reset(token)


def _hook(layer: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        record = _recording.get()
        if record is None or layer not in record:
            return None
        if not isinstance(output, Tensor):
            return None
        record[layer] = output
        # An in-place activation that follows would otherwise overwrite what was recorded.
        return output.clone()

    return keep
