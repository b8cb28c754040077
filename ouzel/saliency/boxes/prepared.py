"""A detector made ready for passes: prepared as classifiers are where it has derivatives, else a plain copy."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.models import detection
from ouzel.models.detection import Candidates
from ouzel.models.networks.detectors import Detector
from ouzel.precision_names import EXACT
from ouzel.saliency.engine.forward import Forward
from ouzel.saliency.engine.prepare import MOST_ROWS, Prepared, memory_share, prepare
from ouzel.saliency.method import GradientSpec, Method

_ALIVE = 4  # layers whose outputs are alive at a time, in a pass without a graph, as a guess


class Network:
    """A private copy of a detector.

    Args:
        network: It stays as it is.
        preprocessing: Of the model, for its colours; None is black at 0 and white at 1.
        memory_bytes: What a pass may take; None is a share of the device's memory.
        known_formats: See `ouzel.saliency.Explainer`.

    Attributes:
        spec: The network itself, for what it says of itself.
        device: Where it is.
        dtype: Of its parameters.
        copy: That runs, once it is prepared.
        rows_per_pass: How many images a pass without a graph may have, once it is prepared.
    """

    def __init__(
        self,
        network: Detector,
        *,
        preprocessing: models.Preprocessing | None,
        memory_bytes: int | None,
        known_formats: Path | None,
    ) -> None:
        self.spec = network
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.rows_per_pass = 1
        self._preprocessing, self._memory_bytes, self._known_formats = preprocessing, memory_bytes, known_formats
        self._lock = threading.Lock()
        self._prepared: Prepared | None = None
        self.copy: torch.nn.Module | None = None

    def prepare(self, example: Tensor) -> None:
        """Make the copy, once. example: (C, H, W), any input that the network takes."""
        with self._lock:
            if self.copy is not None:
                return
            example = example.to(self.device, self.dtype)
            if self.spec.shared:
                self._prepared = prepare(
                    self.spec,
                    example,
                    colours=self._colours(len(example)),
                    memory_bytes=self._memory_bytes,
                    known_formats=self._known_formats,
                    shared=self.spec.shared,
                )
            self.copy = models.own_copy(self.spec) if self._prepared is None else self._prepared.network
            self.rows_per_pass = self._rows(example)

    def _rows(self, example: Tensor) -> int:
        """By the memory granted: what is alive around the layers, and what is computed from candidates."""
        with torch.no_grad(), models.computing(EXACT):
            answer = self._run(example[None])
        inside = self._prepared.row_bytes // _ALIVE if self._prepared is not None else 64 * example.nbytes
        each = inside + 6 * answer.nbytes + 4 * example.nbytes
        memory = self._memory_bytes or memory_share(self.device)
        return max(1, min(memory // each, MOST_ROWS.get(self.device.type, 16)))

    def _run(self, x: Tensor) -> Tensor:
        assert self.copy is not None, "prepare() comes first"
        answer: Tensor = self.copy(x)
        return answer

    def bind(self, method: Method) -> Method:
        """The method with the model's defaults, checked against the model. Raises OuzelError."""
        assert self._prepared is not None, "prepare() comes first, of a network with derivatives"
        method = method.bind(self._prepared.facts)
        for spec in method.gradient_specs():
            if spec.layer is not None:
                self._prepared.taps.check(spec.layer)
        return method

    def forward(self, x: Tensor, specs: Iterable[GradientSpec]) -> Forward:
        """A pass whose graph is kept. x: (B, C, H, W)."""
        if self._prepared is None:
            raise FailedPrecondition("method: this detector has no derivatives", field="method")
        return Forward(self._prepared, x, specs)

    def answer(self, x: Tensor) -> Tensor:
        """(B, R, N, 1) the candidates of images, without a graph."""
        with torch.no_grad(), models.computing(EXACT), models.forward_pass(EXACT, x.device):
            parts = [self._run(part) for part in x.split(self.rows_per_pass)]
        most = max(part.shape[2] for part in parts)  # of Faster R-CNN that of the image with the most proposals
        return torch.cat([_padded(part, most) for part in parts])

    def candidates(self, answer: Tensor, x: Tensor) -> Candidates:
        """What `answer` gave, taken apart."""
        return detection.candidates(answer, self.spec, (x.shape[-2], x.shape[-1]))

    def black(self, x: Tensor) -> Tensor:
        """(C, 1, 1) of a black pixel."""
        return x.new_tensor(self._colours(x.shape[1])[0])[:, None, None]

    def _colours(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self._preprocessing is None:
            return (0.0,) * channels, (1.0,) * channels
        pairs = list(zip(self._preprocessing.mean, self._preprocessing.std, strict=True))
        return tuple((0 - mean) / std for mean, std in pairs), tuple((1 - mean) / std for mean, std in pairs)


def _padded(answer: Tensor, most: int) -> Tensor:
    missing = most - answer.shape[2]
    if not missing:
        return answer
    nothing = answer.new_zeros(len(answer), answer.shape[1], missing, 1)
    nothing[:, -1] = -1
    return torch.cat([answer, nothing], dim=2)
