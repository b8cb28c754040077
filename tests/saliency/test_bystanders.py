"""What a call must leave alone: the caller's model and tensors, other threads, other calls, the memory."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel.saliency import Contrast, Explainer, Rank, Saliency, Top

from . import reference
from .nets import RECTIFIERS, Cnn, images, seeded

EVERYTHING = [
    Saliency("gradient"),
    Saliency("guided", target=Contrast(0, 3), reduction="none"),
    Saliency("grad_cam", target=2, layer="conv1"),
    Saliency("grad_cam", target=Top(2)),
]


def digest(network: nn.Module) -> str:
    """Of all names, bytes and flags of a network's state."""
    state = hashlib.sha256()
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        state.update(f"{name} {tensor.dtype} {tensor.requires_grad} {tensor.grad is None}".encode())
        state.update(tensor.detach().numpy().tobytes())
    for name, module in network.named_modules():
        state.update(f"{name} {module.training} {len(module._forward_hooks)}".encode())
    return state.hexdigest()


@pytest.mark.parametrize("request_", EVERYTHING, ids=lambda r: r.method.name)
@pytest.mark.parametrize("train", [False, True])
def test_models_stay_as_they_are(request_: Saliency, train: bool) -> None:
    network, x = seeded(Cnn, nn.ReLU(inplace=True)).train(train), images(2)
    next(network.parameters()).requires_grad_(False)
    before = digest(network)
    explainer = Explainer(network)
    prepared = explainer.prepare(x[0])
    explainer(x, EVERYTHING)  # taps what will be tapped
    own = digest(prepared.network)
    explainer(x, [request_])
    explainer(images(3, seed=9), [request_])
    assert digest(network) == before
    assert digest(prepared.network) == own
    assert not any(p.requires_grad for p in prepared.network.parameters())


def test_train_mode_gets_the_answer_of_eval_mode() -> None:
    class Net(Cnn):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.dropout(x, 0.5, self.training))

    network, x = seeded(Net), images(2)
    expected = Explainer(network)(x, EVERYTHING)
    result = Explainer(network.train())(x, EVERYTHING)
    for a, b in zip(result.maps, expected.maps, strict=True):  # the two may differ in memory format
        assert reference.error(a.values, b.values) <= 1e-9


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_x_stays_as_it_is(layout: torch.memory_format) -> None:
    class InPlaceFirst(Cnn):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5).relu_())

    explainer = Explainer(seeded(InPlaceFirst))
    x = images(3).contiguous(memory_format=layout)
    for wants_grad in (False, True):
        x.requires_grad_(wants_grad)
        kept = x.detach().clone()
        for requests in ([], EVERYTHING):
            explainer(x, requests)
        assert torch.equal(x, kept)
        assert x.requires_grad == wants_grad
        assert x.grad is None
        assert x._version == 0


def test_under_other_grad_modes() -> None:
    """Also the first call, which prepares."""
    network, x = seeded(Cnn), images(2)
    expected = [m.values for m in Explainer(network)(x, EVERYTHING).maps]
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            explainer = Explainer(network)
            for y in (x, x.clone()):
                for each, values in zip(explainer(y, EVERYTHING).maps, expected, strict=True):
                    assert reference.error(each.values, values) <= 1e-9
        for each, values in zip(explainer(x, EVERYTHING).maps, expected, strict=True):
            assert reference.error(each.values, values) <= 1e-9


def test_threads_never_mix() -> None:
    """Different methods, rules, targets and layers at once, from the first call on, which prepares the model."""
    jobs = [
        [Saliency("gradient", 1, "none")],
        [Saliency("guided", 1, "none")],
        [Saliency("grad_cam", 2, layer="conv1"), Saliency("guided", Rank(1))],
        [Saliency("grad_cam", Contrast(0, 1), layer="conv2"), Saliency("gradient", Top(2))],
    ]
    network = seeded(Cnn, RECTIFIERS["nn.ReLU6 inplace"]).float()
    x = images(2, dtype=torch.float32)
    shared, lone = Explainer(network), Explainer(network)
    shared.prepare(x[0])  # the two may differ in memory format, and then in rounding
    lone._prepared = copy.copy(shared._prepared)
    expected = [[m.values for m in lone(x, job).maps] for job in jobs]
    barrier = threading.Barrier(len(jobs))

    def work(number: int) -> int:
        barrier.wait()
        return sum(
            not reference.same_bytes([m.values for m in shared(x, jobs[number]).maps], expected[number])
            for _ in range(200)
        )

    with ThreadPoolExecutor(len(jobs)) as pool:
        assert list(pool.map(work, range(len(jobs)))) == [0, 0, 0, 0]


def test_threads_prepare_once() -> None:
    explainer, x = Explainer(seeded(Cnn)), images(1)
    barrier = threading.Barrier(4)

    def work(_: int) -> tuple[int, Tensor]:
        barrier.wait()
        values = explainer(x, [Saliency("grad_cam")]).maps[0].values
        return id(explainer._prepared), values

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    assert len({prepared for prepared, _ in results}) == 1
    assert all(reference.same_bytes([values], [results[0][1]]) for _, values in results)


@pytest.mark.parametrize("pairs", [1_000, pytest.param(5_000, marks=pytest.mark.story)])
def test_many_calls_leave_memory_flat(pairs: int) -> None:
    # In a process of its own: what other tests have left on the heap moves the resident size.
    script = [sys.executable, Path(__file__).with_name("many_calls.py"), str(pairs)]
    run = subprocess.run(script, capture_output=True, text=True, timeout=240, check=True)
    grown, objects, hooks = json.loads(run.stdout)
    assert grown < 4 * 2**20
    assert objects < 100
    assert hooks == 3


def test_an_answered_batch_keeps_no_graph() -> None:
    """Nothing but the answers themselves outlives `explain`, even while the batch is held."""
    explainer, x = Explainer(seeded(Cnn)), images(2)
    explainer(x, EVERYTHING)
    gc.collect()
    before = {id(o) for o in gc.get_objects() if isinstance(o, Tensor)}
    batch = explainer.forward(x, [EVERYTHING, EVERYTHING])
    answers = batch.explain()
    gc.collect()
    assert len(answers) == len(batch.logits) == 2
    kept = [o for o in gc.get_objects() if isinstance(o, Tensor) and id(o) not in before]
    assert kept
    assert not any(o.requires_grad for o in kept)
    assert not any(o.data_ptr() == x.data_ptr() or o.shape == (2, 8, 16, 16) for o in kept)  # input, conv1's output


def test_half_precision() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        network, x = seeded(Cnn), images(2)
        exact = Explainer(network)(x, EVERYTHING)
        result = Explainer(network.to(dtype))(x, EVERYTHING)
        assert result.maps[0].values.dtype == dtype
        for a, b in zip(result.maps[:3], exact.maps[:3], strict=True):
            assert a.values.isfinite().all()
            if a.target == b.target:
                assert F.cosine_similarity(a.values.double().flatten(), b.values.flatten(), dim=0) > 0.9


def test_a_network_without_parameters() -> None:
    class Means(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu().mean(dim=(2, 3)) * torch.arange(1.0, 4.0)

    e = Explainer(Means())(images(2, size=5, dtype=torch.float32), [Saliency("gradient"), Saliency("guided", 1)])
    assert e.logits.shape == (2, 3)
    assert torch.allclose(e.maps[1].values, torch.full((2, 5, 5), 2 / 25))
