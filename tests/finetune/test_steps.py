"""How often images are decoded, what the host waits for, and what a fault changes."""

from __future__ import annotations

import copy
import dataclasses
import sys
import threading
from collections import Counter
from contextlib import closing, nullcontext

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.finetune import Diverged, Event, Example, finetune, make_recipe
from ouzel.finetune.devices import filled
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.schedule import make_optimizer, restore, set_rate
from ouzel.finetune.source import Source, _on_device
from ouzel.finetune.steps import Stepper
from ouzel.finetune.variation import Pixels, variation
from ouzel.precision_names import EXACT
from support.operators import Operators

FAST = {"epochs": 2, "batch_size": 4, "patience": 50}


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded, by its bytes."""
    counts: Counter[bytes] = Counter()
    decode = models.decode

    def counted(data, **options):
        counts[data] += 1
        return decode(data, **options)

    monkeypatch.setattr(models, "decode", counted)
    return counts


@pytest.mark.parametrize("recipe", ["lp_ft", "fine_tune", "scratch", "feature_extractor"])
def test_every_file_is_decoded_once(tiny, colours, decoded, recipe):
    parameters = {} if recipe == "feature_extractor" else FAST
    finetune(tiny, colours, make_recipe(recipe, parameters))
    assert set(decoded) == {each.read() for each in colours}
    assert set(decoded.values()) == {1}


def test_what_does_not_fit_is_decoded_again_and_gives_the_same(tiny, colours, decoded, monkeypatch):
    recipe = make_recipe("lp_ft", FAST | {"color": 0.2})
    whole = finetune(tiny, colours, recipe, seed=3)
    decoded.clear()
    monkeypatch.setattr(
        sys.modules["ouzel.finetune.finetune"], "room", lambda device: 20_000
    )  # 6 of 30 images' two forms
    less = finetune(tiny, colours, recipe, seed=3)
    assert max(decoded.values()) > 2
    for a, b in zip(whole.network.state_dict().values(), less.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert whole.history[-1]["loss"] == less.history[-1]["loss"]


def test_decoding_ahead_is_bounded_and_ends(tiny, colours):
    asked: list[str] = []

    def watched(each: Example) -> Example:
        def read() -> bytes:
            asked.append(each.name)
            return each.read()

        return dataclasses.replace(each, read=read)

    pictures = Pictures(tiny.preprocessing, budget=0)
    batches = [[watched(each)] for each in colours]
    with closing(pictures.whole(batches)) as images:
        next(images)
        pictures._threads.submit(lambda: None).result()
    pictures.close()
    assert len(asked) <= 1 + 3
    assert not [each for each in threading.enumerate() if each.name.startswith("ouzel-pictures")]


def test_a_broken_image_ends_the_training_and_its_threads(tiny, colours):
    broken = Example("red/broken.png", "red", "0" * 64, lambda: b"\x89PNG\r\n\x1a\nnothing", "train")
    with pytest.raises(InvalidArgument, match=r"data: red/broken\.png: image: is broken"):
        finetune(tiny, [*colours, broken], make_recipe("fine_tune", FAST))
    assert not [each for each in threading.enumerate() if each.name.startswith("ouzel-pictures")]


def test_an_image_twice_among_those_that_do_not_fit(tiny, colours):
    pictures = Pictures(tiny.preprocessing, budget=0)
    batches = [colours[:3], colours[:2], colours[1:4]]
    for images, batch in zip(pictures.served(batches), batches, strict=True):
        expected = torch.stack([tiny.preprocessing.pixels(models.decode(each.read())) for each in batch])
        assert torch.equal(images, expected)
    pictures.close()


def test_held_images_are_those_that_are_decoded(tiny, colours):
    rows = [torch.tensor([3, 1, 7]), torch.tensor([0, 2])]
    small, large = Pictures(tiny.preprocessing, budget=0), Pictures(tiny.preprocessing)
    sources = [Source(each, colours, torch.device("cpu")) for each in (small, large)]
    for _ in range(2):  # the second time, one has them at hand
        for (a, a_sizes), (b, b_sizes) in zip(*(each.batches(rows) for each in sources), strict=True):
            assert np.array_equal(a_sizes, b_sizes)
            for (start, width), (other, _), (height, _) in zip(a.places, b.places, a_sizes, strict=True):
                count = int(height) * int(width)
                assert torch.equal(a.values[start : start + count], b.values[other : other + count])
        list(sources[1].batches([torch.arange(len(colours))]))
    assert sources[0]._held is None
    assert sources[1]._held is not None
    assert large._bytes == 0  # they are held once
    small.close()
    large.close()


def stepper(tiny, recipe, **options) -> tuple[Stepper, torch.optim.Optimizer]:
    network = copy.deepcopy(tiny.network).requires_grad_(True)
    vary = variation(recipe, tiny.preprocessing)
    made = Stepper(network, vary, recipe, None, 1024, EXACT, **options)
    optimizer = make_optimizer(network, {"fc.weight", "fc.bias"}, recipe, all_layers=True)
    set_rate(optimizer, recipe, 1e-3)
    return made, optimizer


def batch(tiny, colours, count: int) -> tuple[Pixels, np.ndarray, torch.Tensor]:
    pictures = Pictures(tiny.preprocessing)
    ((pixels, sizes),) = Source(pictures, colours, torch.device("cpu")).batches([torch.arange(count)])
    pictures.close()
    return pixels, sizes, torch.arange(count) % 4


def test_the_host_waits_for_nothing_between_two_readings(tiny, colours):
    made, optimizer = stepper(tiny, make_recipe("fine_tune", {"batch_size": 8}))
    given = batch(tiny, colours, 8)
    made.take(optimizer, *given, (0, 1, 0))
    with Operators() as calls:
        for number in range(1, 4):
            made.take(optimizer, *given, (0, 1, number))
    assert not calls.waiting
    with Operators() as calls:
        bool(torch.ones(1))
    assert calls.waiting == {"aten._local_scalar_dense.default": 1}  # so that the line above can fail
    assert made.read().steps == 4


def test_steps_are_told_now_and_then_and_at_the_end_of_each_epoch(tiny, colours, monkeypatch):
    for every, told in ((1e9, 1), (0, 4)):
        monkeypatch.setattr("ouzel.finetune.loop.TELL_EVERY", every)
        events: list[Event] = []
        tuned = finetune(tiny, colours, make_recipe("scratch", FAST), on_event=events.append)
        training = [each for each in events if each.phase == "training"]
        assert tuned.steps == 8
        assert len(training) == 2 * (told + 1)  # and once behind each validation
        assert all(each.state is not None for each in training)
        assert {each.step for each in training} >= {4, 8}
        speeds = [each.metrics["images_per_second"] for each in training if "images_per_second" in each.metrics]
        assert len(speeds) == 2 * told
        assert min(speeds) > 0


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_after_a_fault_no_weight_changes_and_it_is_told_which_step_it_was(tiny, colours, what):
    made, optimizer = stepper(tiny, make_recipe("fine_tune", {"batch_size": 8}))
    given = batch(tiny, colours, 8)
    made.take(optimizer, *given, (0, 1, 0))
    made.take(optimizer, *given, (0, 1, 1))
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    before = [each.detach().clone() for each in parameters]
    moments = copy.deepcopy(optimizer.state_dict()["state"])
    broken = made.network.fc.weight if what == "gradient" else made.network.fc.bias
    if what == "gradient":
        handle = broken.register_hook(lambda gradient: gradient * float("nan"))
    else:
        handle = made.network.fc.register_forward_hook(lambda module, x, y: y * float("nan"))
    made.take(optimizer, *given, (0, 1, 2))
    handle.remove()
    for number in (3, 4):  # these would be fine
        made.take(optimizer, *given, (0, 1, number))
    reading = made.read()
    assert (reading.wrong, reading.steps) == (True, 2)
    assert np.isnan(reading.loss) == (what == "loss")
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    for number, values in optimizer.state_dict()["state"].items():
        assert all(torch.equal(moments[number][name], each) for name, each in values.items())


def test_a_fault_is_told_with_its_own_step_and_no_state_follows_it(tiny, colours, monkeypatch):
    """The loss becomes no number in the sixth step, and is read at the end of the second epoch."""
    monkeypatch.setattr("ouzel.finetune.loop.TELL_EVERY", 1e9)
    take, taken, events = Stepper.take, [], []

    def spoiled(self, optimizer, pixels, sizes, classes, draw, **more):
        taken.append(draw)
        if len(taken) == 6:
            self.network.fc.register_forward_hook(lambda module, x, y: y * float("inf"))
        take(self, optimizer, pixels, sizes, classes, draw, **more)

    monkeypatch.setattr(Stepper, "take", spoiled)
    with pytest.raises(Diverged, match="the loss became nan in step 6 at a learning rate of 0"):
        finetune(tiny, colours, make_recipe("scratch", FAST), on_event=events.append)
    assert len(taken) == 8
    assert [each.step for each in events] == [4, 4]


@pytest.mark.parametrize("count", [8, 5])
def test_batches_filled_up_to_one_size_give_the_same_gradients(tiny, colours, count):
    """As on a GPU, where each new size costs seconds."""
    recipe = make_recipe("fine_tune", {"batch_size": 8})
    seen: list[int] = []
    given, gradients = batch(tiny, colours, count), []
    for one_shape in (False, True):
        made, optimizer = stepper(tiny, recipe, one_shape=one_shape)
        made.network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
        made.take(optimizer, *given, (0, 1, 0))
        gradients.append([each.grad for group in optimizer.param_groups for each in group["params"]])
    assert seen == [count, 8]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    learning = make_recipe("fine_tune", {"batch_size": 8, "train_batchnorm": True})
    assert not stepper(tiny, learning, one_shape=True)[0].one_shape


def test_filling_up():
    x = torch.arange(6).view(2, 3)
    assert filled(x, 4).tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2], [0, 1, 2]]
    assert filled(x, 2) is x


@pytest.mark.parametrize("fused", [True, False])
def test_a_loaded_state_lies_in_memory_as_its_parameters_do(tiny, fused):
    """torch's fused optimisers take both for arrays of the same order, whatever their strides are."""
    recipe = make_recipe("fine_tune", {})
    network = copy.deepcopy(tiny.network).requires_grad_(True).to(memory_format=torch.channels_last)
    chance = torch.Generator().manual_seed(0)

    def step(optimizer):
        set_rate(optimizer, recipe, 1e-3)
        for each in network.parameters():
            noise = torch.randn(each.shape, generator=chance)
            each.grad = torch.empty_like(each, requires_grad=False).copy_(noise)
        optimizer.step()

    first = make_optimizer(network, {"fc.weight", "fc.bias"}, recipe, all_layers=True)
    step(first)
    state = copy.deepcopy(first.state_dict())
    for values in state["state"].values():
        for name, value in values.items():
            values[name] = value.contiguous()  # as a file gives it
    if not fused:
        for group in state["param_groups"]:
            group["fused"] = None  # as AdamW gives it by default
    weights, drawn = copy.deepcopy(network.state_dict()), chance.get_state()
    step(first)
    expected = copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)
    chance.set_state(drawn)
    second = make_optimizer(network, {"fc.weight", "fc.bias"}, recipe, all_layers=True)
    restore(second, state)
    assert all(group["fused"] for group in second.param_groups)
    step(second)
    assert all(torch.equal(expected[name], each) for name, each in network.state_dict().items())


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no CUDA")
@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("precision", ["exact", "bf16"])
def test_a_step_on_a_gpu_mixes_no_devices_and_reads_no_value(tiny, monkeypatch, precision):
    """On fake tensors, which know their device and have no values: to read one raises, and so does mixing devices.

    Faked besides: pinned memory, the generator of a GPU, and the backward pass, whose threads want a real one.
    """
    recipe = make_recipe("fine_tune", {"batch_size": 8, "color": 0.3})
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr("ouzel.finetune.steps._chance", lambda draw, device: nullcontext())
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        network = models.build(tiny.arch, num_classes=4).eval().requires_grad_(True)

        def backward(loss: torch.Tensor) -> None:
            for each in network.parameters():
                each.grad = torch.zeros_like(each)

        monkeypatch.setattr(torch.Tensor, "backward", backward)
        optimizer = make_optimizer(network, {"fc.weight", "fc.bias"}, recipe, all_layers=True)
        set_rate(optimizer, recipe, 1e-3)
        weights = torch.ones(4)
        made = Stepper(network, variation(recipe, tiny.preprocessing), recipe, weights, 1024, precision)
        assert made.one_shape
        with torch.device("cpu"):
            images = [torch.zeros(36, 40, 3, dtype=torch.uint8) for _ in range(5)]
        pixels, sizes = _on_device(images, torch.device("cuda"))
        for number in range(2):
            made.take(optimizer, pixels, sizes, torch.zeros(5, dtype=torch.int64), (0, 1, number))
        assert made._wrong.device.type == "cuda"
        with pytest.raises(DataDependentOutputException):
            made.read()  # so that reading would be seen
