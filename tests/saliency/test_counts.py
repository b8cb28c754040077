"""What an answer costs beside the network's own arithmetic: operators, waits and tensors, whatever the batch.

On a GPU each operator is a launch and each look at a value a wait. Both can be counted on a CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ouzel.saliency import Contrast, Explainer, Saliency, Top

from .nets import images

SAMPLES = 6
# What makes the host wait for a GPU: a value becomes a number, or a tensor comes to the host.
LOOKS = ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__float__", "__index__")
JOBS = {
    "gradient": [Saliency("gradient")],
    "gradient of classes": [Saliency("gradient", 3), Saliency("gradient", Contrast(1, 2))],
    "gradient of the best three": [Saliency("gradient", Top(3), "none")],
    "grad_cam": [Saliency("grad_cam", layer="2")],
    "three": [Saliency("gradient"), Saliency("guided"), Saliency("grad_cam", layer="2")],
    "smoothgrad": [Saliency("smoothgrad", samples=SAMPLES)],
    "integrated": [Saliency("integrated_gradients", steps=SAMPLES)],
    "occlusion": [Saliency("occlusion", window=8, stride=8)],
    "rise": [Saliency("rise", masks=SAMPLES)],
}


class Operators(TorchDispatchMode):
    """Counts operators, and the tensors that they give."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.tensors = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls[str(func)] += 1
        self.tensors += len(result) if isinstance(result, list | tuple) else 1
        return result


@contextmanager
def looks() -> Iterator[Counter[str]]:
    """Counts the looks at values."""
    seen: Counter[str] = Counter()

    def counting(name: str) -> Any:
        real = getattr(Tensor, name)

        def look(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen[name] += 1
            return real(self, *args, **kwargs)

        return look

    with mock.patch.multiple(Tensor, **{name: counting(name) for name in LOOKS}):
        yield seen


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    explainer = Explainer(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 50)).eval())
    prepared = explainer.prepare(images(1, dtype=torch.float32)[0])
    object.__setattr__(prepared, "most_rows", 10**6)  # all further inputs in one pass, as far as memory goes
    object.__setattr__(prepared, "memory_bytes", 2**40)
    return explainer


def counted(explainer: Explainer, rows: int, requests: list[Saliency]) -> tuple[Operators, Counter[str]]:
    x = images(rows, dtype=torch.float32)
    for _ in range(2):  # layers are tapped, noise is drawn
        explainer(x, requests)
    with Operators() as operators, looks() as seen:
        explainer(x, requests)
    return operators, seen


@pytest.mark.parametrize("job", JOBS)
def test_operators_do_not_depend_on_the_rows(explainer: Explainer, job: str) -> None:
    one, eight, many = (counted(explainer, rows, JOBS[job])[0] for rows in (1, 8, 32))
    assert sum(eight.calls.values()) == sum(many.calls.values())
    assert eight.tensors == many.tensors
    # One row follows itself: what gathers rows of several may have nothing to do for it, or be a view.
    assert sum(one.calls.values()) == pytest.approx(sum(eight.calls.values()), abs=3)


@pytest.mark.parametrize("job", JOBS)
def test_one_look_per_batch(explainer: Explainer, job: str) -> None:
    """Beside those at an input on the host, which wait for nothing: whether it is finite."""
    for rows in (1, 8):
        _, seen = counted(explainer, rows, JOBS[job])
        assert seen["tolist"] == 1
        assert seen.pop("__bool__") == 2  # of the input
        assert seen.pop("cpu") <= 2  # of what is on the host already
        assert seen.total() == 1, seen


def test_operators_beyond_the_network_itself(explainer: Explainer) -> None:
    """An upper bound, so that the number cannot creep up: one forward and one backward of the same network less."""
    x = images(8, dtype=torch.float32)
    network = explainer.prepare(x[0]).network
    with Operators() as floor:
        leaf = x.clone().requires_grad_()
        torch.autograd.grad(network(leaf).amax(dim=1).sum(), leaf)
    operators, _ = counted(explainer, 8, JOBS["gradient"])
    assert sum(operators.calls.values()) - sum(floor.calls.values()) < 35


def test_rows_with_wishes_of_their_own_cost_passes_not_operators_each(explainer: Explainer) -> None:
    wishes = [[Saliency("gradient", 1)], [Saliency("gradient"), Saliency("gradient", Top(2))], []]

    def calls(times: int) -> int:
        rows = wishes * times
        x = images(len(rows), dtype=torch.float32)
        explainer.forward(x, rows).explain()
        with Operators() as operators:
            explainer.forward(x, rows).explain()
        # Each row's map is a view of its own, and nothing else is.
        return sum(operators.calls.values()) - 4 * times

    assert calls(2) == calls(8)


def test_maps_of_a_batch_are_one_tensor(explainer: Explainer) -> None:
    x = images(4, dtype=torch.float32)
    answers = explainer.forward(x, [JOBS["gradient"]] * 4).explain()
    maps = [answer[0].values for answer in answers if isinstance(answer, list)]
    assert len({one.untyped_storage().data_ptr() for one in maps}) == 1
    top = explainer(x, JOBS["gradient of the best three"]).maps
    assert len(top) == 3
    assert len({one.values.untyped_storage().data_ptr() for one in top}) == 1
