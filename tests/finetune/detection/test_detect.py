"""Learning to detect: what is learnt, resuming, the head alone, and what comes out is served and learns on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.explain import ExplainService, RawRequest
from ouzel.finetune import Event, make_recipe
from ouzel.finetune.detection import Detected, boxed_from_folder, detect
from ouzel.finetune.detection.comparison import beside
from ouzel.finetune.detection.early import improvement
from ouzel.task_names import DETECTION
from support import boxed, detectors

FAST = {"frozen_epochs": 2, "epochs": 2, "batch_size": 4, "held_out": 0.25}
SIZE = 96


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return boxed_from_folder(boxed.write(tmp_path_factory.mktemp("boxed") / "data"))


def learnt(data: Any, parameters: dict[str, Any] | None = None, **more: Any) -> Detected:
    examples, classes = data
    base = more.pop("base", None) or boxed.base()
    return detect(base, examples, classes, make_recipe("detect", FAST | (parameters or {})), image_size=SIZE, **more)


def distance(one: Detected, other: Detected) -> float:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


@pytest.fixture(scope="module")
def whole(data: Any) -> tuple[Detected, list[Any], list[Detected]]:
    """A run, its states after each epoch, and what was given early."""
    states, early = [], []

    def keep(event: Event) -> None:
        if event.state is not None and event.phase in ("training", "head"):
            states.append(_copied(event.state()))

    return learnt(data, on_event=keep, early=early.append), states, early


def _copied(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {name: _copied(each) for name, each in state.items()}
    return [_copied(each) for each in state] if isinstance(state, list) else state


def test_what_was_killed_goes_on_as_if_it_had_not_been(data: Any, whole: Any) -> None:
    made, states, (alone,) = whole
    assert made.history[1]["train_loss"] < made.history[0]["train_loss"]
    for state in (states[0], states[len(states) // 2], states[-2]):
        given: list[Detected] = []
        resumed = learnt(data, resume=state, early=given.append)
        assert distance(made, resumed) <= 1e-5
        assert (resumed.test, resumed.chosen) == (made.test, made.chosen)
        assert [row["map"] for row in resumed.history] == [row["map"] for row in made.history]
        assert distance(alone, given[0]) <= 1e-5
        assert len(given) == 1


def test_first_the_new_layers_alone_and_the_features_keep_their_statistics(data: Any, whole: Any) -> None:
    made, _, (alone,) = whole
    base = boxed.base().network.state_dict()
    features = "backbone.model."
    for name, tensor in alone.network.state_dict().items():
        if name.startswith(features):
            assert torch.equal(tensor, base[name.removeprefix(features)])
    moved = [
        name
        for name, tensor in made.network.state_dict().items()
        if name.startswith(features) and not torch.equal(tensor, base[name.removeprefix(features)])
    ]
    assert not any("running" in name for name in moved)
    assert alone.chosen == "new layers"
    same = learnt(data, {"epochs": 0})
    assert distance(same, alone) <= 1e-5
    assert not any(parameter.requires_grad for parameter in made.network.parameters())
    found = improvement(alone, made)
    assert found.same == (made.chosen == "new layers")
    assert found.same or found.better == (made.test.map > alone.test.map)


def test_the_result_is_served_and_explained_and_learns_on(data: Any, whole: Any, tmp_path: Path) -> None:
    examples, classes = data
    made = whole[0]
    low, high = made.test.interval
    assert 0 <= low <= made.test.map <= high <= 1
    assert (made.labels, made.classes, made.test.images) == (("background", *classes), classes, 4)
    model = models.load(made.archive(tmp_path / "shapes.mar", "shapes", lineage={"recipe": "detect"}))
    assert (model.task, model.labels) == ("detection", boxed.CLASSES)
    options = {"saliency": [{"method": "d_rise", "masks": 2, "target": {"class": "disc", "box": [1, 2, 30, 40]}}]}
    (reply,) = ExplainService(model).answer([RawRequest(image=examples[1].read(), options=json.dumps(options))])
    assert reply.http == 200, reply.envelope.error
    assert reply.envelope.HasField("detected")
    itself = beside(model, made)
    assert itself.map == pytest.approx(made.test.map, abs=1e-6)
    assert itself.gain == pytest.approx((0, 0, 0), abs=1e-6)
    assert "is a classifier" in beside(boxed.base(), made).problem
    slow = {"frozen_epochs": 0, "epochs": 1, "learning_rate": 1e-8, "validation": 0.0}
    same = detect(model, examples, classes, make_recipe("detect", FAST | slow))
    assert same.preprocessing == made.preprocessing
    assert distance(same, made) < 1e-3  # it keeps its heads, and statistics
    other = detect(model, examples, ("ring", "box"), make_recipe("detect", FAST | slow))
    last = [name for name in other.network.state_dict() if "classification_head" in name and name.endswith("1.weight")]
    state, before = other.network.state_dict(), made.network.state_dict()
    assert any(not torch.allclose(state[name], before[name], atol=1e-3) for name in last)


def test_what_cannot_be_learnt_is_refused(data: Any) -> None:
    examples, classes = data
    stranger = dataclasses.replace(detectors.model(), arch="torchvision:retinanet_resnet50_fpn")
    with pytest.raises(FailedPrecondition, match="base: 'finds' is a detector of the architecture torchvision"):
        learnt(data, base=stranger)
    assert stranger.task == DETECTION
    with pytest.raises(FailedPrecondition, match="base: torchvision:resnet18 gives no features for a detector"):
        learnt(data, base=boxed.base("torchvision:resnet18"))
    with pytest.raises(InvalidArgument, match=r"data: none of the .* train images has an object"):
        learnt(([one for one in examples if not one.boxes], classes))
    with pytest.raises(InvalidArgument, match=r"data: 001.png: label 2 is not within 1..1"):
        learnt((examples, classes[:1]))
    with pytest.raises(InvalidArgument, match="nothing would be learnt"):
        learnt(data, {"epochs": 0, "frozen_epochs": 0})
    with pytest.raises(InvalidArgument, match="early: needs epochs in which the new layers learn"):
        learnt(data, {"epochs": 0}, early=print)


def test_a_time_limit_ends_it_with_what_there_is(data: Any) -> None:
    made = learnt(data, {"epochs": 50}, max_training_seconds=0.01)
    assert made.out_of_time
    assert made.steps == 1
    assert "time limit" in made.notes[0]
