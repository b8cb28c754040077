from __future__ import annotations

import argparse
import json
import os
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ouzel.errors import InvalidArgument, NotFound
from ouzel.models import weights


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def same(state, other) -> bool:
    return list(state) == list(other) and all(torch.equal(state[name], other[name]) for name in state)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_what_was_written_is_read(tmp_path, suffix):
    state = dict(network().state_dict())
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    read = weights.read(path)
    assert sorted(read) == sorted(state)
    assert all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": OrderedDict(state), "optimizer": {"lr": 0.1}},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {0: {"step": torch.zeros(1)}}}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"module": state, "loss_scaler": None},
        lambda state: {"state_dict": state, "class_weights": {"w": torch.zeros(4)}},
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin"])
def test_wrappings_come_off(tmp_path, wrap, suffix):
    state = network().state_dict()
    path = tmp_path / f"w{suffix}"
    torch.save(wrap(state), path)
    assert same(weights.read(path), state)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("state_dict", "state_dict_ema"), "'state_dict' and 'state_dict_ema'"),
        (("model", "model_ema"), "'model' and 'model_ema'"),
        (("model", "state_dict"), "'model' and 'state_dict'"),
    ],
)
def test_of_two_networks_in_a_checkpoint_none_is_guessed(tmp_path, names, told):
    state = network().state_dict()
    averaged = {"module": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(dict(zip(names, (state, averaged), strict=True)), tmp_path / "w.pth")
    with pytest.raises(InvalidArgument, match=told) as caught:
        weights.read(tmp_path / "w.pth")
    assert "torch.save(" in str(caught.value)


def longer(state, name):
    return {name(key): tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    "name",
    [
        "module.{}".format,
        "_orig_mod.{}".format,
        "model.{}".format,
        "module.module.{}".format,
        "module._orig_mod.{}".format,
        "_orig_mod.module.model.{}".format,
        "net.{}".format,
        "model._orig_mod.{}".format,
        lambda key: key.replace(".", "._orig_mod.", 1),  # a part alone was compiled
        lambda key: f"_fsdp_wrapped_module.{key.replace('.', '._checkpoint_wrapped_module.', 1)}",
    ],
)
def test_what_wrappers_put_before_names_comes_off(name):
    state = network().state_dict()
    assert same(weights.match(longer(state, name), network()), state)


def test_an_averaged_model_is_read():
    averaged = torch.optim.swa_utils.AveragedModel(network())
    assert same(weights.match(averaged.state_dict(), network()), averaged.module.state_dict())


def test_what_data_parallel_saves_is_read(tmp_path):
    plain = network()
    torch.save(nn.DataParallel(plain).state_dict(), tmp_path / "w.pth")
    assert list(weights.read(tmp_path / "w.pth")) != list(plain.state_dict())
    assert same(weights.match(weights.read(tmp_path / "w.pth"), network()), plain.state_dict())


class Named(nn.Module):
    """A network whose own names begin like those of a wrapper."""

    def __init__(self):
        super().__init__()
        self.model = network()


def test_a_prefix_that_is_the_networks_own_stays():
    state = Named().state_dict()
    assert same(weights.match(state, Named()), state)
    assert same(weights.match(longer(state, "model.{}".format), Named()), state)
    assert same(weights.match(longer(state, "module.{}".format), Named()), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**longer(s, "model.{}".format), "criterion.weight": torch.zeros(2)}, r"1 unknown \(criterion"),
        (lambda s: {**longer(s, "model.{}".format), "normalize.mean": torch.zeros(3)}, r"1 unknown \(normalize\.mean"),
        (lambda s: longer({k: t for k, t in s.items() if k != "3.bias"}, "module.{}".format), r"1 missing \(3\.bias\)"),
        (lambda s: {**longer(s, "student.{}".format), **longer(s, "teacher.{}".format)}, "2 times, as 'student"),
        (lambda s: {**s, **longer(s, "ema.{}".format)}, "2 times, as '0.bias' and 'ema.0.bias'"),
        (lambda s: longer(s, "1.{}".format), r"fit the architecture behind '1\.'"),  # what was 0, a normalisation?
        (lambda s: {("module." if i else "") + k: t for i, (k, t) in enumerate(s.items())}, "missing"),
    ],
)  # fmt: skip
def test_prefixes_that_are_not_clear_are_refused(change, message):
    with pytest.raises(InvalidArgument, match=message):
        weights.match(change(dict(network().state_dict())), network())


class _Code:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


@pytest.mark.parametrize("content", [_Code(), {"a": _Code()}, network()], ids=["code", "code inside", "module"])
def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InvalidArgument, match=r"w\.pth is not a file of tensors"):
        weights.read(tmp_path / "w.pth")
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.mark.parametrize(
    "content", [{}, [], 3, {"state_dict": {}}, {"a": 1}, {"a": {"b": torch.zeros(1)}}, {3: torch.zeros(1)}]
)
def test_a_pickle_of_something_else(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InvalidArgument, match=r"w\.pth holds"):
        weights.read(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        b"\xff" * 64,
        b"PK\x03\x04" + bytes(40),
        (2**40).to_bytes(8, "little") + b"{}",  # a header of a terabyte
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99]}}     ' + bytes(16),
    ],
)
def test_files_of_something_else(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=f"w{suffix} is not a file of tensors") as caught:
        weights.read(path)
    assert "\n" not in str(caught.value)


def test_truncated_files(tmp_path, lite0_weights, tiny_weights):
    for source in (lite0_weights, tiny_weights):
        path = tmp_path / f"cut{source.suffix}"
        path.write_bytes(source.read_bytes()[:-1000])
        with pytest.raises(InvalidArgument, match="not a file of tensors"):
            weights.read(path)


def test_names_of_files(tmp_path):
    with pytest.raises(NotFound, match=r"none\.pth"):
        weights.read(tmp_path / "none.pth")
    (tmp_path / "w.pkl").write_bytes(b"")
    with pytest.raises(InvalidArgument, match=r"w\.pkl does not end in"):
        weights.read(tmp_path / "w.pkl")


# -- matching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["name", "order"])
def test_state_that_fits(by):
    state = network().state_dict()
    matched = weights.match(state, network(), by=by)
    assert same(matched, state)
    assert all(matched[name].data_ptr() != state[name].data_ptr() for name in state)


def test_order_needs_no_names():
    state = {f"tensor {i}": t for i, t in enumerate(network().state_dict().values()) if t.ndim}
    assert [tensor.shape for tensor in weights.match(state, network(), by="order").values()] == [
        tensor.shape for tensor in network().state_dict().values()
    ]
    with pytest.raises(InvalidArgument, match="match by order"):
        weights.match(state, network(), by="name")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype):
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in network().state_dict().items()}
    matched = weights.match(state, network())
    assert {t.dtype for t in matched.values()} == {torch.float32, torch.int64}
    assert torch.equal(matched["0.weight"], state["0.weight"].float())


def test_counters_may_be_missing():
    state = network().state_dict()
    del state["1.num_batches_tracked"]
    assert weights.match(state, network())["1.num_batches_tracked"] == 0


def changed(name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = dict(network().state_dict())
    state.pop(name, None)
    return state if tensor is None else state | {name: tensor}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed("3.bias", None), r"1 missing \(3\.bias\)"),
        (changed("extra", torch.zeros(1)), r"1 unknown \(extra\)"),
        (changed("3.weight", torch.zeros(2, 5)), r"3\.weight is \(2, 5\) where the architecture has \(2, 4\)"),
        (changed("3.weight", torch.zeros(2, 4, dtype=torch.int64)), r"3\.weight is torch\.int64"),
        (changed("3.weight", torch.zeros(2, 4, dtype=torch.complex64)), r"3\.weight is torch\.complex64"),
        (changed("1.num_batches_tracked", torch.tensor(1.5)), r"num_batches_tracked is torch\.float32"),
        (changed("3.weight", torch.full((2, 4), float("nan"))), r"3\.weight holds values that are not finite"),
        (changed("0.bias", torch.tensor([0, 0, 0, float("-inf")])), r"0\.bias holds values that are not finite"),
        (changed("0.bias", torch.full((4,), 1e300, dtype=torch.float64)), r"0\.bias holds values that are not finite"),
        ({}, r"missing \(0\.weight, 0\.bias, 1\.weight, \.\.\.\)"),
    ],
)
def test_state_that_does_not_fit_by_name(state, message):
    with pytest.raises(InvalidArgument, match=message):
        weights.match(state, network())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed("3.bias", None), "7 tensors where the architecture has 8"),
        (
            dict(reversed(network().state_dict().items())),
            r"tensor 0, 3\.bias \(2,\), cannot be 0\.weight \(4, 3, 3, 3\)",
        ),
        (changed("3.bias", torch.tensor([0, float("nan")])), r"3\.bias holds values that are not finite"),
    ],
)
def test_state_that_does_not_fit_by_order(state, message):
    with pytest.raises(InvalidArgument, match=message):
        weights.match(state, network(), by="order")


def test_unknown_way_of_matching():
    with pytest.raises(InvalidArgument, match="'shape' is not one of name, order"):
        weights.match({}, network(), by="shape")


def safetensors_file(path, header, body=b"", length=None):
    text = json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path


@pytest.mark.parametrize(
    ("header", "body", "length"),
    [
        ({}, b"", 2**60),  # a header that would fill any memory
        ({}, b"", 200 * 2**20),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(8), None),  # ends early
        (
            {
                "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
            },
            bytes(12),
            None,
        ),  # overlap
        ({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}, bytes(16), None),
        ({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}, bytes(16), None),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}, bytes(16), None),
    ],
)
def test_hostile_safetensors_are_refused(tmp_path, header, body, length):
    path = safetensors_file(tmp_path / "x.safetensors", header, body, length)
    with pytest.raises(InvalidArgument, match=r"x\.safetensors is not a file of tensors"):
        weights.read(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    small = nn.Linear(2, 2)
    state = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    state["weight"][0, 1] = value
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(InvalidArgument, match="weight holds values that are not finite"):
        weights.match(weights.read(tmp_path / "x.safetensors"), small)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [network(), {"model": network(), "epoch": 3}], ids=["alone", "in a checkpoint"])
def test_a_whole_module_gets_the_recipe(tmp_path, content, zipped):
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InvalidArgument) as caught:
        weights.read(tmp_path / "w.pth")
    assert 'torch.save(model.state_dict(), "weights.pth")' in str(caught.value)
    assert "would run" in str(caught.value)
    assert "a whole module (torch.nn.modules.container.Sequential)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_objects_are_named(tmp_path):
    torch.save({"model": network().state_dict(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    with pytest.raises(InvalidArgument, match=r"Python object \(argparse\.Namespace\).*trust"):
        weights.read(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore")
def test_torchscript_gets_its_recipe(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "w.pt")
    with pytest.raises(InvalidArgument, match=r'torch\.jit\.load\("w\.pt"\)\.state_dict\(\)'):
        weights.read(tmp_path / "w.pt")
