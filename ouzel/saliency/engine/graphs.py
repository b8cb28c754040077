"""Small batches as CUDA graphs: all kernels of an answer, forward and backward, launched at once.

One or two images keep a GPU busy for less time than it takes to launch their kernels one by one. So what is asked for
again and again is captured once, with fixed places for the images and the classes, and then replayed.

A graph is used only if it gives what the ordinary way gives, compared at its capture, on the images at hand and on
others. A network that cannot be captured (its control flow depends on values, it waits for the device) is explained in
the ordinary way, and so is everything else: larger batches, methods of further passes, what is asked for once.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ouzel.saliency.engine.chosen import Chosen
from ouzel.saliency.engine.compute import Computed, GroupMaps, classes_of, compute
from ouzel.saliency.engine.deviation import inputs
from ouzel.saliency.engine.forward import Forward
from ouzel.saliency.engine.prepare import Prepared
from ouzel.saliency.engine.work import Work, specs_of
from ouzel.saliency.targets import Rank
from ouzel.saliency.transfer import sent

logger = logging.getLogger(__name__)

MOST_ROWS = 2
AFTER = 3  # times that the same was asked for; a capture takes as long as many answers
_AGAIN = 1000  # the same for what had to make room, so that two do not take turns
_REMEMBERED = 256  # kinds of requests that are counted
# Where the ordinary way itself does not give the same bits twice (atomic additions), a replay may be as far from it as
# this share of the largest value; it would be by far more if it had missed a branch or an input.
_ROUNDING = 1e-5


class Captured(Protocol):
    """Work that has been captured. Of one thread at a time."""

    result: Computed
    """Where `replay` leaves what it computes."""

    bytes: int
    """Of the device's memory that it holds."""

    def turn(self) -> AbstractContextManager[None]:
        """Within, inputs are written, `replay` is called and results are read, after those of earlier turns."""

    def replay(self) -> None:
        """Do the work once more, on what its inputs hold now."""

    def close(self) -> None:
        """Let the memory go."""


class Capturer(Protocol):
    """Captures work."""

    def capture(self, work: Callable[[], Computed]) -> Captured:
        """Capture work that reads and writes tensors that stay where they are. It may be run several times.

        Raises whatever says that it cannot be captured.
        """


@dataclass(frozen=True)
class _Graph:
    """A captured answer with the places of its inputs, and what it needs to stay where it is."""

    captured: Captured
    x: Tensor
    classes: Tensor
    chosen: Chosen

    @torch.inference_mode(False)
    @torch.no_grad()
    def run(self, x: Tensor, classes: Tensor) -> Computed:
        with self.captured.turn():
            self.x.copy_(x)
            self.classes.copy_(classes)
            self.captured.replay()
            return self.captured.result.map(torch.clone)


class Graphs:
    """The graphs of one network. Threads may share them.

    Args:
        prepared: The network.
        capturer: Captures.
        most_bytes: That all graphs hold together; the least recently used goes first.

    Attributes:
        given_up: Why this network is not captured; "" if it is, or has not been tried.
    """

    def __init__(self, prepared: Prepared, capturer: Capturer, most_bytes: int) -> None:
        self.given_up = ""
        self._prepared, self._capturer, self._most_bytes = prepared, capturer, most_bytes
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._asked: Counter[Hashable] = Counter()
        self._lock = threading.Lock()
        self._capturing = threading.Lock()

    def compute(self, x: Tensor, work: Work) -> Computed | None:
        """What `compute` gives for a batch, from a graph; None if there is none for it.

        Args:
            x: (B, C, H, W) on the device, of a size that the network has taken before.
            work: What is asked for.
        """
        if self.given_up or len(x) > MOST_ROWS or any(group.method.cost(*x.shape[2:]) for group in work.groups):
            return None
        classes = sent(classes_of(work), x.device)
        key = _key(x, work)
        with self._lock:
            if key in self._graphs:
                self._graphs.move_to_end(key)
                return self._graphs[key].run(x, classes)
            if len(self._asked) >= _REMEMBERED:
                self._asked.clear()
            self._asked[key] += 1
            if self._asked[key] < AFTER:
                return None
        if not self._capturing.acquire(blocking=False):
            return None  # another thread captures
        try:
            if key not in self._graphs and not self.given_up:
                self._keep(key, self._capture(x, work, classes))
        except Exception as error:  # noqa: BLE001 - a network may raise anything when it cannot be captured
            self._give_up(f"{type(error).__name__}: {error}")
        finally:
            self._capturing.release()
        return None  # this time the ordinary way

    def _capture(self, x: Tensor, work: Work, classes: Tensor) -> _Graph:
        specs = specs_of(work.groups)
        chosen = Chosen(x.device)

        def ordinary(images: Tensor, indices: Tensor) -> Computed:
            return compute(Forward(self._prepared, images, specs), work, indices, chosen)

        with torch.inference_mode(False), torch.no_grad():
            fixed = x.clone(memory_format=self._prepared.memory_format)
            indices = classes.clone()
            ordinary(fixed, indices)  # whatever happens once happens now: taps, layouts, lists sent to the device
            captured = self._capturer.capture(lambda: ordinary(fixed, indices))
            graph = _Graph(captured, fixed, indices, chosen)
            others = inputs(self._prepared, x.shape[1:])[: len(x)].to(x)
            for images, asked in ((x, classes), (others, (classes + 1) % self._prepared.classes)):
                expected, again = (_tensors(ordinary(images, asked)) for _ in range(2))
                for number, tensors in enumerate(zip(_tensors(graph.run(images, asked)), expected, again, strict=True)):
                    if not _agree(*tensors):
                        captured.close()
                        raise ValueError(f"a replay differs from the ordinary way (tensor {number})")
        return graph

    def _keep(self, key: Hashable, graph: _Graph) -> None:
        if graph.captured.bytes > self._most_bytes:
            graph.captured.close()
            self._give_up(f"a graph takes {graph.captured.bytes} bytes, more than {self._most_bytes}")
            return
        with self._lock:
            self._graphs[key] = graph
            while sum(one.captured.bytes for one in self._graphs.values()) > self._most_bytes:
                oldest, dropped = self._graphs.popitem(last=False)
                dropped.captured.close()
                self._asked[oldest] = AFTER - _AGAIN

    def _give_up(self, why: str) -> None:
        with self._lock:
            self.given_up = why
            while self._graphs:
                self._graphs.popitem()[1].captured.close()
        logger.warning("small batches are not captured as CUDA graphs: %s", why)


def _key(x: Tensor, work: Work) -> Hashable:
    """All that a graph depends on but the images and the classes."""
    pairs = [
        (pair.row, pair.target if isinstance(pair.target, Rank) else pair.target.minus is None) for pair in work.pairs
    ]
    return x.shape, tuple(pairs), work.groups


def _tensors(computed: Computed) -> list[Tensor]:
    groups = [one.values for one in computed.groups if isinstance(one, GroupMaps)]
    return [computed.logits, *groups, computed.figures]


def _agree(replayed: Tensor, expected: Tensor, again: Tensor) -> bool:
    """The same bits; or, where the ordinary way has no fixed bits, the same within rounding."""
    if _same_bits(replayed, expected):
        return True
    if _same_bits(expected, again) or not expected.isfinite().all():
        return False
    return bool((replayed - expected).abs().amax() <= _ROUNDING * expected.abs().amax())


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(*(one.contiguous().view(torch.uint8) for one in (a, b)))


class CudaCapturer:
    """Captures with CUDA graphs, each with a memory pool of its own.

    Args:
        device: A GPU.
    """

    WARM_UPS = 3  # libraries choose and allocate in the first runs, which must not happen during the capture

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def capture(self, work: Callable[[], Computed]) -> Captured:
        """See `Capturer`."""
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):  # autograd runs backward on the stream of the forward pass
                for _ in range(self.WARM_UPS):
                    work()
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved()
            graph = torch.cuda.CUDAGraph()
            # Other threads go on meanwhile: only this thread is kept from what a capture forbids.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                result = work()
            return _CudaGraph(graph, result, max(0, torch.cuda.memory_reserved() - before))


class _CudaGraph:
    def __init__(self, graph: torch.cuda.CUDAGraph, result: Computed, size: int) -> None:
        self._graph, self.result, self.bytes = graph, result, size
        self._done = torch.cuda.Event()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """See `Captured`; threads may use different streams."""
        stream = torch.cuda.current_stream(self.result.logits.device)
        stream.wait_event(self._done)
        yield
        self._done.record(stream)

    def replay(self) -> None:
        """See `Captured`."""
        self._graph.replay()

    def close(self) -> None:
        """See `Captured`; a graph must not go while it runs."""
        self._done.synchronize()
        self._graph.reset()
