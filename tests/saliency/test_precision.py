"""Exact by default, whatever the process is set to; faster by name, and then it is stated how far that moves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ouzel.errors import InvalidArgument
from ouzel.maximize import Channel, ClassLogit, make_recipe, maximize, search
from ouzel.metrics import deletion, robustness
from ouzel.precision_names import PRECISIONS
from ouzel.saliency import METHODS, Explainer, Saliency
from ouzel.saliency.engine.folding import fold
from support.arithmetic import Spy, Watching, expected, seen, set_by_user, watching

IEEE = expected("ieee")
REQUESTS = [Saliency("gradient"), Saliency("grad_cam", layer="conv"), Saliency("smoothgrad", samples=2)]


def images(count: int = 2, edge: int = 12) -> Tensor:
    return torch.rand(count, 3, edge, edge, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("generation", ["nothing", "older", "newer"])
def test_every_pass_of_an_exact_answer_sees_ieee_flags(generation: str) -> None:
    network = watching()
    plain = network(images())
    network.log.clear()
    with set_by_user(generation), torch.autocast("cpu", torch.bfloat16):
        answer = Explainer(network)(images(), REQUESTS)
        assert torch.is_autocast_enabled("cpu")
    assert {kind for kind, _ in network.log} == {"forward", "backward"}
    assert all(flags == IEEE for _, flags in network.log)
    torch.testing.assert_close(answer.logits, plain.detach(), rtol=0, atol=1e-6)


def test_flags_are_the_callers_again_when_the_network_raises() -> None:
    with set_by_user("older"):
        before = seen()
        network = watching()
        explainer = Explainer(network)
        explainer(images(), REQUESTS)
        assert seen() == before
        failing = watching(fails=True)
        with pytest.raises(ArithmeticError):
            Explainer(failing)(images(), REQUESTS)
        assert failing.log[-1][1] == IEEE
        assert seen() == before


def test_an_exact_answer_beside_a_fast_one() -> None:
    """Two threads, again and again: the exact one never sees the other's flags."""
    exact, fast = watching(), watching(1)
    explainers = (Explainer(exact), Explainer(fast, precision="tf32"))
    before, errors = seen(), list[BaseException]()

    def work(explainer: Explainer) -> None:
        try:
            for _ in range(30):
                explainer(images(), REQUESTS)
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(explainer,)) for explainer in explainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert not any(thread.is_alive() for thread in threads)
    assert all(flags == IEEE for _, flags in exact.log)
    assert seen() == before


def test_tf32_sets_the_flags() -> None:
    network = watching()
    explainer = Explainer(network, precision="tf32")
    explainer(images(1), [Saliency("gradient")])
    network.log.clear()
    explainer(images(1), [Saliency("gradient")])
    assert [kind for kind, _ in network.log] == ["forward", "backward"]
    assert all(flags == expected("tf32") for _, flags in network.log)
    assert explainer.deviation is not None  # what was measured; this CPU may have no TF32, and then it is 0


def test_bf16_is_autocast_of_the_forward_pass_alone() -> None:
    network = watching()
    explainer = Explainer(network, precision="bf16")
    explainer(images(1), [Saliency("gradient")])
    network.log.clear()
    explainer(images(1), [Saliency("gradient")])
    assert [(kind, flags["autocast"]) for kind, flags in network.log] == [("forward", True), ("backward", False)]
    answer = explainer(images(), [Saliency(name) for name in METHODS if "guided" not in name])
    assert answer.logits.dtype == torch.float32
    assert {one.values.dtype for one in answer.maps} == {torch.float32}
    assert all(parameter.dtype == torch.float32 for parameter in explainer.prepare(images()[0]).network.parameters())


class Plain(nn.Sequential):
    """Without BatchNorm, so that what is compared is the same network to the last operation."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 25, 5),
        )


def test_the_stated_deviation_is_that_of_an_independent_computation() -> None:
    torch.manual_seed(0)
    network = Plain().eval().requires_grad_(False)
    explainer = Explainer(network, precision="bf16")
    explainer.prepare(images()[0])
    x = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))  # black is 0 and white 1

    def run(reduced: bool, classes: Tensor | None) -> tuple[Tensor, Tensor]:
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            logits = network(leaf)
        chosen = logits.argmax(1) if classes is None else classes
        (gradient,) = torch.autograd.grad(logits.float()[torch.arange(8), chosen].sum(), leaf)
        return logits.detach().double(), gradient.abs().amax(1).double()

    logits, maps = run(False, None)
    fast_logits, fast_maps = run(True, logits.argmax(1))
    stated = explainer.deviation
    assert stated is not None
    assert stated.inputs == 8
    assert stated.logits == pytest.approx(float((fast_logits - logits).norm() / logits.norm()), rel=0.1)
    assert stated.gradient == pytest.approx(float((fast_maps - maps).norm() / maps.norm()), rel=0.1)
    assert 1e-4 < stated.logits < 0.1  # bfloat16 has 8 bits
    fast, exact = (Explainer(network, precision=p)(x, [Saliency("gradient")]).maps[0] for p in ("bf16", "exact"))
    assert not torch.equal(fast.values, exact.values)


def test_nothing_to_measure_is_not_stated_as_nothing() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([1.0, 2.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias.expand(len(x), 2)

    explainer = Explainer(Constant().eval(), precision="bf16")
    explainer.prepare(images()[0])
    assert explainer.deviation is not None
    assert (explainer.deviation.logits, explainer.deviation.gradient) == (0.0, None)


def test_exact_states_no_deviation_and_unknown_names_are_refused() -> None:
    explainer = Explainer(watching())
    explainer.prepare(images()[0])
    assert (explainer.precision, explainer.deviation) == ("exact", None)
    with pytest.raises(InvalidArgument, match="precision: 'fp16' is not one of exact, tf32, bf16"):
        Explainer(watching(), precision="fp16")  # type: ignore[arg-type]


def test_folding_is_judged_exactly() -> None:
    spy = Spy()
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), spy, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network = nn.Sequential(*layers).eval().requires_grad_(False)
    with set_by_user("newer"), torch.autocast("cpu", torch.bfloat16):
        folded = fold(network, images(1))
    assert (list(folded.affines), folded.given_up) == (["0"], "")
    assert spy.log == [IEEE, IEEE]  # as it was, and folded
    for precision in PRECISIONS:
        spy.log.clear()
        assert Explainer(network, precision=precision).prepare(images()[0]).facts.unfolded == ""
        assert spy.log[:3] == [IEEE] * 3  # the pass that shows the classes, and these two


def test_folding_that_is_given_up_says_why(caplog: pytest.LogCaptureFixture) -> None:
    class Curious(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            mean = self.norm.running_mean
            assert mean is not None
            return self.head(self.norm(self.conv(x)).mean(dim=(2, 3)) + mean.sum())

    with caplog.at_level(logging.WARNING):
        facts = Explainer(Curious().eval()).prepare(images()[0]).facts
    assert facts.unfolded == "the model does not run without its BatchNorm modules (AttributeError)"
    assert facts.unfolded in caplog.text


def _deletion(network: Watching) -> None:
    deletion.area(network, images()[0], images()[0, 0], 1, "deletion", steps=4)


def _infidelity(network: Watching) -> None:
    robustness.infidelity(network, images()[0], images()[0], 1, samples=4)


def _maximize(network: Watching) -> None:
    recipe = make_recipe("fourier", {"steps": 2})
    result = maximize(network, [ClassLogit(1), Channel("conv", 2)], recipe=recipe, size=(12, 12))
    assert result.precision == "exact"


def _search(network: Watching) -> None:
    search(network, [Channel("conv", 2)], [("a", images()[0]), ("b", images()[1])])


@pytest.mark.parametrize("compute", [_deletion, _infidelity, _maximize, _search])
def test_what_else_computes_is_exact(compute: Callable[[Watching], None]) -> None:
    network = watching()
    with set_by_user("older"), torch.autocast("cpu", torch.bfloat16):
        before = seen()
        compute(network)
        assert seen() == before
    assert network.log
    assert all(flags == IEEE for _, flags in network.log)
