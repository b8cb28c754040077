"""Which small batches are replayed, and that a replay gives what the ordinary way gives.

There is no GPU here. `FakeCapturer` stands in for CUDA: a replay runs the work again on the very tensors that it was
captured with, and leaves its results in the very tensors that the capture gave, as a graph does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ouzel.saliency import Contrast, Explainer, Rank, Saliency, Top
from ouzel.saliency.engine.compute import Computed
from ouzel.saliency.engine.graphs import AFTER, Graphs
from ouzel.saliency.results import SaliencyMap

from . import reference
from .nets import Cnn, images, seeded

REQUESTS = [Saliency("gradient"), Saliency("guided", Rank(1)), Saliency("grad_cam", Contrast(1, 3), layer="conv2")]


def tensors(computed: Computed) -> list[Tensor]:
    found: list[Tensor] = []
    computed.map(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


class FakeGraph:
    """Runs the work again, under the eyes of `spoil`, which may change what comes of it."""

    def __init__(self, work: Callable[[], Computed], size: int, spoil: Callable[[Tensor], None]) -> None:
        self.bytes, self.replays, self.closed = size, 0, False
        self._work, self._spoil, self._busy = work, spoil, threading.Lock()
        self.result = work().map(torch.clone)

    @contextmanager
    def turn(self) -> Iterator[None]:
        assert self._busy.acquire(blocking=False), "two threads at a time"
        try:
            yield
        finally:
            self._busy.release()

    def replay(self) -> None:
        assert not self.closed
        self.replays += 1
        for place, tensor in zip(tensors(self.result), tensors(self._work()), strict=True):
            place.copy_(tensor)
            self._spoil(place)

    def close(self) -> None:
        self.closed = True


class FakeCapturer:
    def __init__(self, size: int = 10, spoil: Callable[[Tensor], None] = lambda _: None) -> None:
        self.graphs: list[FakeGraph] = []
        self._size, self._spoil = size, spoil

    def capture(self, work: Callable[[], Computed]) -> FakeGraph:
        self.graphs.append(FakeGraph(work, self._size, self._spoil))
        return self.graphs[-1]


def pair(
    network: nn.Module, capturer: Any, most_bytes: int = 100, example: Tensor | None = None
) -> tuple[Explainer, Explainer]:
    """One that captures, and one that does not, over one prepared network."""
    x = images(1) if example is None else example
    fast, plain = Explainer(network), Explainer(network)
    prepared = fast.prepare(x[0])
    plain._prepared = prepared
    fast._graphs = Graphs(prepared, capturer, most_bytes)
    return fast, plain


def replayed(capturer: FakeCapturer) -> int:
    return sum(graph.replays for graph in capturer.graphs)


def same(one: SaliencyMap, other: SaliencyMap) -> bool:
    return reference.same_bytes([one.values], [other.values]) and (
        (one.target, one.method, one.rectified, one.caveats, one.parameters)
        == (other.target, other.method, other.rectified, other.caveats, other.parameters)
    )


@pytest.mark.parametrize("rows", [1, 2])
def test_a_replay_is_the_ordinary_answer(rows: int) -> None:
    capturer = FakeCapturer()
    fast, plain = pair(seeded(Cnn, nn.ReLU()), capturer)
    kept = []
    for number in range(AFTER + 6):
        x = images(rows, seed=number)
        answer, expected = fast(x, REQUESTS), plain(x, REQUESTS)
        kept.append((answer, expected))
    assert len(capturer.graphs) == 1
    assert replayed(capturer) == 2 + 5  # two to compare, the capture's own answer is an ordinary one
    for answer, expected in kept:  # also those that were given before the last replay
        assert reference.same_bytes([answer.logits], [expected.logits])
        assert all(same(*maps) for maps in zip(answer.maps, expected.maps, strict=True))
    assert fast.uncaptured == ""


def test_other_classes_take_the_same_graph_and_other_wishes_another() -> None:
    capturer = FakeCapturer()
    fast, plain = pair(seeded(Cnn, nn.ReLU()), capturer)
    x = images(2)
    fast(x, [])  # of this size the network is known to take inputs

    def ask(*requests: Saliency) -> None:
        answer, expected = fast(x, requests), plain(x, requests)
        assert all(same(*maps) for maps in zip(answer.maps, expected.maps, strict=True))

    for index in range(5):
        ask(Saliency("gradient", index), Saliency("gradient", Contrast(index, (index + 1) % 5)))
    assert len(capturer.graphs) == 1
    for _ in range(AFTER + 1):
        ask(Saliency("gradient", Top(3)), Saliency("guided", Rank(1)))
    assert len(capturer.graphs) == 2
    for targets in ([0, 1], [2, 2], [4, 0], [3, 1]):
        ask(Saliency("gradient", targets))
    assert len(capturer.graphs) == 3
    assert replayed(capturer) == 3 * 2 + 2 + 1 + 1


def test_what_is_not_replayed() -> None:
    capturer = FakeCapturer()
    fast, plain = pair(seeded(Cnn, nn.ReLU()), capturer)
    for _ in range(AFTER + 2):
        for x, requests in (
            (images(3), REQUESTS),  # more rows
            (images(1), [Saliency("integrated_gradients", steps=2)]),  # further passes
            (images(1), [Saliency("gradient", 2), Saliency("gradient")]),  # classes that may turn out to be the same
        ):
            answer, expected = fast(x, requests), plain(x, requests)
            assert all(same(*maps) for maps in zip(answer.maps, expected.maps, strict=True))
        batch = fast.forward(images(1), [REQUESTS], certain=False)
        assert batch.explain(keep=[False]) == [[]]
    assert capturer.graphs == []
    assert fast.uncaptured == ""


def test_rows_that_are_not_wanted_after_all() -> None:
    capturer = FakeCapturer()
    fast, plain = pair(seeded(Cnn, nn.ReLU()), capturer)
    x = images(2)
    for _ in range(AFTER + 2):
        first, second = fast.forward(x, [REQUESTS, REQUESTS[:1]]).explain(keep=[False, True])
        _, expected = plain.forward(x, [REQUESTS, REQUESTS[:1]]).explain(keep=[False, True])
        assert first == []
        assert isinstance(second, list)
        assert isinstance(expected, list)
        assert same(second[0], expected[0])
    assert replayed(capturer) > 2


def test_errors_of_a_method_are_those_of_the_ordinary_way() -> None:
    capturer = FakeCapturer()
    fast, plain = pair(seeded(Cnn, nn.SiLU()), capturer)
    x = images(1)
    for _ in range(AFTER + 2):
        (error,) = fast.forward(x, [[Saliency("gradient"), Saliency("guided")]]).explain()
        (expected,) = plain.forward(x, [[Saliency("gradient"), Saliency("guided")]]).explain()
        assert str(error) == str(expected)
        assert "saliency[1]" in str(error)
    assert replayed(capturer) > 2


def test_values_that_are_not_finite_are_refused_in_a_replay_too() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.mean(dim=(2, 3)).sqrt())  # its slope is infinite at 0

    capturer = FakeCapturer()
    fast, _ = pair(seeded(Root), capturer)
    for _ in range(AFTER + 1):
        fast(images(1), [Saliency("gradient")])
    before = replayed(capturer)
    with pytest.raises(Exception, match="gives values that are not finite"):
        fast(torch.zeros(1, 3, 16, 16).double(), [Saliency("gradient")])
    assert replayed(capturer) == before + 1


class Branching(Cnn):
    """Takes another way for dark images than for bright ones."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 if float(x.detach().mean()) > 0.7 else 2)


class RefusesToBranch:
    """Captures as CUDA does: who looks at a value meanwhile cannot be captured."""

    def capture(self, work: Callable[[], Computed]) -> Any:
        def look(_: Tensor) -> float:
            raise RuntimeError("operation not permitted when stream is capturing")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "__float__", look)
            work()
        raise AssertionError("nothing looked")


@pytest.mark.parametrize(
    ("capturer", "network", "why"),
    [
        (RefusesToBranch(), Branching, "RuntimeError: operation not permitted"),
        (FakeCapturer(spoil=lambda place: place.mul_(1 + 1e-15)), Cnn, "a replay differs from the ordinary way"),
        (FakeCapturer(size=1000), Cnn, "a graph takes 1000 bytes, more than 100"),
    ],
    ids=["looks", "differs", "large"],
)
def test_what_cannot_be_captured_is_explained_as_before(
    capturer: Any, network: type[nn.Module], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    fast, plain = pair(seeded(network, nn.ReLU()), capturer)
    with caplog.at_level(logging.WARNING):
        for number in range(AFTER + 5):
            x = images(1, seed=number)
            answer, expected = fast(x, REQUESTS), plain(x, REQUESTS)
            assert all(same(*maps) for maps in zip(answer.maps, expected.maps, strict=True))
    assert why in fast.uncaptured
    assert sum(why in record.getMessage() for record in caplog.records) == 1
    assert all(graph.closed for graph in getattr(capturer, "graphs", []))


def test_a_branch_that_the_capture_missed_is_found_on_the_other_input() -> None:
    """A stand-in for a graph that has one way baked in: it replays what it saw at its capture."""

    class Frozen(FakeCapturer):
        def capture(self, work: Callable[[], Computed]) -> FakeGraph:
            result = work()
            return super().capture(lambda: result)

    fast, plain = pair(seeded(Cnn, nn.ReLU()), Frozen())
    for number in range(AFTER + 3):
        x = images(1, seed=number)
        assert same(fast(x, REQUESTS).maps[0], plain(x, REQUESTS).maps[0])
    assert "differs from the ordinary way" in fast.uncaptured


def test_a_network_without_fixed_bits_may_differ_by_rounding_and_no_more() -> None:
    class Shaky(Cnn):
        """As where atomic additions come in any order. `size`: of the noise."""

        size = 1e-12

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (1 + self.size * torch.rand((), dtype=x.dtype))

    fast, _ = pair(seeded(Shaky, nn.ReLU()), FakeCapturer())
    for _ in range(AFTER + 1):
        fast(images(1), [Saliency("gradient", 1)])
    assert fast.uncaptured == ""
    assert fast._graphs is not None
    assert len(fast._graphs._graphs) == 1
    Shaky.size = 1e-2
    fast, _ = pair(seeded(Shaky, nn.ReLU()), FakeCapturer())
    for _ in range(AFTER + 1):
        fast(images(1), [Saliency("gradient", 1)])
    assert "differs" in fast.uncaptured


def test_the_memory_is_bounded_and_the_oldest_goes() -> None:
    capturer = FakeCapturer(size=40)
    fast, _ = pair(seeded(Cnn, nn.ReLU()), capturer)  # of 100
    for place in range(4):
        for _ in range(AFTER + 1):
            fast(images(1), [Saliency("gradient", Rank(place))])
    assert [graph.closed for graph in capturer.graphs] == [True, True, False, False]
    for _ in range(AFTER + 1):
        fast(images(1), [Saliency("gradient", Rank(0))])
    assert len(capturer.graphs) == 4  # what had to go is not captured again at once


def test_threads_share_graphs() -> None:
    capturer = FakeCapturer()
    network = seeded(Cnn, nn.ReLU()).float()
    fast, plain = pair(network, capturer, example=images(1, dtype=torch.float32))
    barrier = threading.Barrier(4)
    inputs = [images(1, seed=number, dtype=torch.float32) for number in range(4)]
    expected = [[one.values for one in plain(x, REQUESTS).maps] for x in inputs]

    def work(number: int) -> int:
        barrier.wait()
        return sum(
            not reference.same_bytes([one.values for one in fast(inputs[number], REQUESTS).maps], expected[number])
            for _ in range(50)
        )

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [0, 0, 0, 0]
    assert len(capturer.graphs) == 1
    assert replayed(capturer) > 100


def test_without_a_gpu_there_are_none() -> None:
    explainer = Explainer(seeded(Cnn))
    explainer(images(1), [Saliency("gradient")])
    assert explainer._graphs is None
    assert explainer.uncaptured == ""
