"""Heads are read out of archives, and backbones are the same only if their bits are."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import torch as safetensors

from ouzel.errors import FailedPrecondition, NotFound
from ouzel.models import archive, split
from ouzel.models.heads import linear_head
from ouzel.models.store import ModelStore
from support.gateway import write_store
from support.heads import ARCH, backbone, publish_head


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path)


@pytest.mark.parametrize("piece", [1009, 4 * 2**20])  # smaller than the header, and larger than all
def test_the_head_is_that_of_the_archive(store: ModelStore, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "_PIECE", piece)
    file = publish_head(store, backbone(), 5, 1)
    found = split.split(file.path)
    card, values, state = archive.read(file.path)
    assert found is not None
    assert (found.card, found.values, found.layer) == (card, values, linear_head(ARCH, 3)[0])
    assert torch.equal(found.weight, state[f"{found.layer}.weight"])
    assert torch.equal(found.bias, state[f"{found.layer}.bias"])
    assert found.content.digest == f"sha256:{hashlib.sha256(safetensors.save(state)).hexdigest()}"
    again = split.split(file.path, found.content)
    assert again is not None
    assert torch.equal(again.weight, found.weight)


def test_the_backbone_is_the_same_for_any_head_and_for_no_other_bit(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = backbone()

    def digest(tensors: dict[str, torch.Tensor], classes: int, seed: int) -> str:
        found = split.split(publish_head(store, tensors, classes, seed).path)
        assert found is not None
        return found.content.backbone

    same = digest(state, 3, 1)
    assert digest(state, 50, 2) == same
    monkeypatch.setattr(split, "_PIECE", 5003)
    assert digest(state, 4, 3) == same
    others = {same}
    for number, name in enumerate(name for name, tensor in state.items() if not name.startswith("fc.")):
        if number % 7:
            continue
        changed = state[name].clone()
        changed.view(-1)[-1] += 1
        others.add(digest({**state, name: changed}, 3, 100 + number))
    assert len(others) == 2 + (len([name for name in state if not name.startswith("fc.")]) - 1) // 7


def test_damage_is_told(store: ModelStore) -> None:
    file = publish_head(store, backbone(), 3, 1)
    sound = file.path.read_bytes()
    for place in (len(sound) // 2, len(sound) - 40_000):
        damaged = bytearray(sound)
        damaged[place] ^= 1
        file.path.write_bytes(damaged)
        with pytest.raises(FailedPrecondition):
            split.split(file.path)
    for size in (len(sound) // 2, 100, 0):
        file.path.write_bytes(sound[:size])
        with pytest.raises(FailedPrecondition):
            split.split(file.path)
    file.path.unlink()
    with pytest.raises(NotFound):
        split.split(file.path)


def test_weights_that_are_not_finite_or_of_other_classes_are_refused(store: ModelStore) -> None:
    file = publish_head(store, backbone(), 3, 1)
    card, _, state = archive.read(file.path)
    other = dataclasses.replace(card, labels=(*card.labels, "one more"))
    with pytest.raises(FailedPrecondition, match="not of 4 classes"):
        split.split(archive._write(other, state, file.path, replace=True))
    infinite = {**state, "fc.bias": torch.full((3,), float("inf"))}
    with pytest.raises(FailedPrecondition, match=r"fc\.bias holds values that are not finite"):
        split.split(archive._write(card, infinite, file.path, replace=True))


def test_a_head_that_is_not_one_linear_layer_is_not_split(tmp_path: Path) -> None:
    write_store(tmp_path)
    assert split.split(tmp_path / "toy.mar") is None
