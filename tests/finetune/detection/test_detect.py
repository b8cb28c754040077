"""Learning to detect: the loss, resuming, and what comes out is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection.ssd import SSD

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.explain import ExplainService, RawRequest
from ouzel.finetune.detection import DetectOptions, boxed_from_folder, detect
from ouzel.finetune.detection.detect import loss_of
from support import boxed, detectors

OPTIONS = DetectOptions(frozen_epochs=2, epochs=2, size=96, batch_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return boxed_from_folder(boxed.write(tmp_path_factory.mktemp("boxed") / "data"))


def test_the_loss_is_that_of_torchvisions_ssd() -> None:
    network, theirs = detectors.ssd()
    theirs = theirs.train()
    x = detectors.pictures(2)
    targets = [
        {
            "boxes": torch.tensor([[4.0, 6.0, 30.0, 28.0], [20.0, 20.0, 50.0, 60.0]]).double(),
            "labels": torch.tensor([1, 3]),
        },
        {"boxes": torch.zeros(0, 4).double(), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    assert isinstance(theirs, SSD)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    expected = sum(theirs(list(x), targets).values())
    torch.testing.assert_close(loss_of(network, x, targets), expected)


def test_what_was_killed_goes_on_as_if_it_had_not_been(data: Any) -> None:
    examples, classes = data
    states, losses = {}, []

    def keep(epoch: Any) -> None:
        states[epoch.number] = epoch.state()
        losses.append(epoch.loss)

    base = boxed.base()
    before = {name: tensor.clone() for name, tensor in base.network.state_dict().items()}
    whole = detect(base, examples, classes, OPTIONS, on_epoch=keep)
    assert losses[1] < losses[0]
    for number in (1, 2, 3):
        resumed = detect(boxed.base(), examples, classes, OPTIONS, resume=states[number])
        for name, tensor in whole.network.state_dict().items():
            torch.testing.assert_close(resumed.network.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
        assert resumed.test == whole.test
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in whole.network.parameters())


def test_the_result_is_served_and_explained_with_its_lineage(data: Any, tmp_path: Path) -> None:
    examples, classes = data
    made = detect(boxed.base(), examples, classes, OPTIONS)
    model = models.load(made.archive(tmp_path / "shapes.mar", "shapes"))
    assert (model.task, model.labels) == ("detection", boxed.CLASSES)
    lineage = model.card["lineage"]
    assert (lineage["recipe"], lineage["base_digest"]) == ("detect", "sha256:base")
    assert lineage["metrics"]["map50"] == made.test.map50
    assert set(made.held_out) < {str(one.path) for one in examples}
    options = {"saliency": [{"method": "d_rise", "masks": 2, "target": {"class": "disc", "box": [1, 2, 30, 40]}}]}
    request = RawRequest(image=examples[1].path.read_bytes(), options=json.dumps(options))
    (reply,) = ExplainService(model).answer([request])
    assert reply.http == 200, reply.envelope.error
    assert reply.envelope.HasField("detected")


def test_what_cannot_be_learnt_is_refused(data: Any) -> None:
    examples, classes = data
    with pytest.raises(FailedPrecondition, match="base: 'finds' is a detector; detectors need a classifier"):
        detect(detectors.model(), examples, classes, OPTIONS)
    with pytest.raises(FailedPrecondition, match="base: torchvision:resnet18 gives no features for a detector"):
        detect(boxed.base("torchvision:resnet18"), examples, classes, OPTIONS)
    with pytest.raises(InvalidArgument, match="and none of them has an object"):
        detect(boxed.base(), [one for one in examples if not one.boxes], classes, OPTIONS)
    with pytest.raises(InvalidArgument, match=r"parameters.size: 2000 is not within 64..1024"):
        DetectOptions(size=2000)
    with pytest.raises(InvalidArgument, match="epochs"):
        DetectOptions(frozen_epochs=0, epochs=0)
