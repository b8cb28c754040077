"""Outputs of named layers, per call: what Grad-CAM and its kin look at.

A layer gets one permanent forward hook, on the engine's own copy of the network. The hook does nothing unless the
calling thread is inside `recording`, so that concurrent calls never see each other's tensors.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ouzel.errors import FailedPrecondition
from ouzel.names import unknown_layer
from ouzel.saliency.engine.folding import Affine


@dataclass(frozen=True)
class Recording:
    """What one forward pass records. begin: let the graph begin at the tapped layers; nothing before them is wanted."""

    outputs: dict[str, Tensor | None]
    begin: bool


_recording: ContextVar[Recording | None] = ContextVar("ouzel_recording", default=None)


class Taps:
    """The tapped layers of one network. folded: convolutions that took in the BatchNorm after them."""

    def __init__(self, network: nn.Module, folded: Mapping[str, Affine]) -> None:
        self._modules = dict(network.named_modules(remove_duplicate=False))
        self._folded = folded
        self._tapped: set[str] = set()
        self._reached: set[str] = set()
        self._lock = threading.Lock()

    def check(self, layer: str) -> None:
        """Raises NotFound if the network has no layer of that name, FailedPrecondition if nobody can look at it."""
        if not layer or layer not in self._modules:
            raise unknown_layer(layer, self._modules)
        if isinstance(self._modules[layer], torch.jit.ScriptModule):
            raise FailedPrecondition(f"layer: {layer!r} is TorchScript, which shows no outputs", field="layer")

    def reached(self, layers: Iterable[str]) -> bool:
        """Whether earlier passes have shown that the image reaches these layers."""
        return self._reached.issuperset(layers)

    @contextmanager
    def recording(self, layers: Iterable[str], *, begin: bool = False) -> Iterator[dict[str, Tensor | None]]:
        """Record the outputs of layers during the forward pass of this thread.

        Of a layer that runs more than once, the last output counts.

        What is recorded is a node of the graph of its own: its gradient is that of this output alone.

        Args:
            layers: Their names.
            begin: Whether the graph begins at the layers; for layers that `reached` vouches for.

        Yields:
            The outputs by layer, which the pass fills in; None of a layer that it does not reach.
        """
        record = Recording(dict.fromkeys(layers), begin)
        for layer in record.outputs:
            self._tap(layer)
        token = _recording.set(record)
        try:
            yield record.outputs
        finally:
            _recording.reset(token)
        self._reached.update(
            name for name, output in record.outputs.items() if output is not None and output.requires_grad
        )

    def _tap(self, layer: str) -> None:
        with self._lock:
            if layer not in self._tapped:
                self._modules[layer].register_forward_hook(_hook(layer, self._folded.get(layer)))
                self._tapped.add(layer)


def _hook(layer: str, folded: Affine | None) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        record = _recording.get()
        if record is None or layer not in record.outputs or not isinstance(output, Tensor):
            return None
        if record.begin and not output.requires_grad and output.is_floating_point():
            output = output.detach().requires_grad_()
        if folded is not None:
            record.outputs[layer], output = _unfolded(output, folded)
            return output
        # Copies both before and after: the layer may hand on its input, which has other uses, and an in-place
        # activation that follows would overwrite what was recorded.
        record.outputs[layer] = kept = output.clone()
        return kept.clone()

    return keep


def _unfolded(output: Tensor, folded: Affine) -> tuple[Tensor, Tensor]:
    """What the convolution gave before its BatchNorm was folded in, and the output, now a function of that as well.

    The output's values stay as they are. A channel that the BatchNorm multiplied by 0 counts as 0: nothing depends on
    it.
    """
    value = ((output.detach() - folded.shift) / folded.scale).to(output.dtype)
    value = torch.where(value.isfinite(), value, 0)
    if not output.requires_grad:
        return value, output
    value.requires_grad_()
    return value, output + folded.scale.to(output.dtype) * (value - value.detach())
