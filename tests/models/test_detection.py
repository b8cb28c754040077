"""Detectors, what is chosen from their candidates, and their archives, against torchvision's own."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ouzel import models
from ouzel.errors import InvalidArgument, NotFound
from ouzel.model_file import archives
from ouzel.models import archive, detection
from ouzel.models.detection import Candidates, candidates, in_image, in_input, select
from ouzel.models.networks.detectors import Rules
from support import detectors

SSDLITE = "ssdlite:timm:test_resnet"
LABELS = ("background", "cat", "dog")
MAKERS = {"ssd": detectors.ssd, "retinanet": detectors.retinanet, "faster_rcnn": detectors.faster_rcnn}


def seeded(arch: str, classes: int, channels: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.build(arch, classes, channels)


def same(ours: detection.Detections, theirs: dict) -> None:
    assert len(ours) == len(theirs["scores"]) > 0
    torch.testing.assert_close(ours.scores, theirs["scores"])
    torch.testing.assert_close(ours.boxes, theirs["boxes"], rtol=1e-5, atol=1e-3)
    assert torch.equal(ours.labels, theirs["labels"])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_detections_are_torchvisions_whatever_the_batch(name, seed):
    network, theirs = MAKERS[name](seed)
    x = detectors.pictures()
    with torch.no_grad():
        expected = theirs(list(x))
        together = select(candidates(network(x), network, (64, 64)), network.rules)
        alone = [select(candidates(network(one[None]), network, (64, 64)), network.rules)[0] for one in x]
    for mine, single, wanted in zip(together, alone, expected, strict=True):
        same(mine, wanted)
        same(single, wanted)


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("ssdlite320_mobilenet_v3_large", 1.2),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 1.2),
        ("retinanet_resnet50_fpn", 0.6),
    ],
)
def test_torchvisions_networks_take_torchvisions_weights_and_answer_alike(name, spread):
    from torchvision.models import detection as torchvisions
    from torchvision.models.detection._utils import overwrite_eps

    ours = seeded(f"torchvision:{name}", 4)
    generator = torch.Generator().manual_seed(2)
    for parameter in ours.parameters():  # as they are drawn, all scores are the same to some digits
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=spread / parameter[0].numel() ** 0.5, generator=generator)
    theirs = getattr(torchvisions, name)(weights=None, weights_backbone=None, num_classes=4).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    edge = 320 if "320" in name else 128
    if name == "retinanet_resnet50_fpn":  # as torchvision does with its published weights
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
        overwrite_eps(theirs, 0.0)
    theirs.transform.image_mean, theirs.transform.image_std = [0.0] * 3, [1.0] * 3
    theirs.transform.min_size, theirs.transform.max_size = (edge,), edge
    for network in (ours, theirs):  # random networks are sure of nothing
        if hasattr(network, "rules"):
            object.__setattr__(network.rules, "score", 0.0005)
        (network.roi_heads if hasattr(network, "roi_heads") else network).score_thresh = 0.0005
    ours, theirs = ours.double(), theirs.double()  # what is nearly equal stays in order
    x = torch.rand(1, 3, edge, edge, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        same(select(candidates(ours(x), ours, (edge, edge)), ours.rules)[0], theirs([x[0]])[0])


def plain_select(found: Candidates, rules: Rules) -> list[tuple[float, int, tuple[float, ...], int]]:
    """By loops over lists: (score, label, box, place), the best first."""
    rows = []
    for place, levels in enumerate(found.levels[0].tolist()):
        for label, score in enumerate(found.probabilities[0, place].tolist()):
            if levels >= 0 and score > rules.score:
                rows.append((score, label, tuple(found.boxes[0, place].tolist()), place, levels))
    rows.sort(key=lambda row: -row[0])
    counts: dict[float, int] = {}
    taken = []
    for row in rows:
        group = row[1] if rules.group == "class" else row[4]
        counts[group] = counts.get(group, 0) + 1
        if not rules.group or counts[group] <= rules.candidates:
            taken.append(row)
    kept: list = []
    for row in taken:
        if all(row[1] != other[1] or detectors.plain_iou(row[2], other[2]) <= rules.overlap for other in kept):
            kept.append(row)
    return [row[:4] for row in kept[: rules.most]]


@pytest.mark.parametrize("group", ["class", "level", ""])
def test_selection_is_what_plain_loops_select(group):
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(1, 60, 2, generator=generator, dtype=torch.float64) * 60
    boxes = torch.cat([corner, corner + 5 + 30 * torch.rand(1, 60, 2, generator=generator, dtype=torch.float64)], 2)
    probabilities = torch.rand(1, 60, 3, generator=generator, dtype=torch.float64)
    levels = torch.randint(-1, 3, (1, 60), generator=generator)
    probabilities *= (levels >= 0)[..., None]
    found = Candidates(boxes, probabilities, probabilities.amax(2), levels)
    rules = Rules(0.3, 0.4, 25, group=group, candidates=12)
    (ours,) = select(found, rules)
    expected = plain_select(found, rules)
    assert list(zip(ours.scores.tolist(), ours.labels.tolist(), ours.places.tolist(), strict=True)) == [
        (score, label, place) for score, label, _, place in expected
    ]
    assert ours.boxes.tolist() == [list(box) for _, _, box, _ in expected]


def test_an_image_in_which_nothing_is_proposed_has_no_detections():
    network, _ = detectors.faster_rcnn()
    network.rpn.score_thresh = 2.0
    with torch.no_grad():
        answer = network(detectors.pictures(2))
    assert [len(one) for one in select(candidates(answer, network, (64, 64)), network.rules)] == [0, 0]


def test_boxes_go_to_the_image_and_back():
    view, size = (10.0, 0.0, 90.0, 40.0), (20, 40)
    boxes = torch.tensor([[0.0, 0.0, 40.0, 20.0], [10.0, 5.0, 20.0, 10.0]])
    there = in_image(boxes, view, size)
    assert there.tolist() == [[10.0, 0.0, 90.0, 40.0], [30.0, 10.0, 50.0, 20.0]]
    assert in_input(there, view, size).tolist() == boxes.tolist()


# -- archives ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "detector.safetensors"
    save_file(seeded(SSDLITE, 3).state_dict(), path)
    return path


def test_an_archive_keeps_task_and_geometry(weights, tmp_path):
    model = models.load(archive.create("finds", SSDLITE, weights, LABELS, tmp_path, task="detection"))
    assert (model.task, model.labels, model.preprocessing.fit) == ("detection", LABELS, "stretch")
    assert model.preprocessing.view(640, 123) == (0.0, 0.0, 640.0, 123.0)
    (found,) = archives([tmp_path / "finds.mar"])
    assert found.task == "detection"
    x = torch.rand(1, *model.input_shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.network(x), seeded(SSDLITE, 3)(x))


def test_the_first_label_must_be_the_background(weights, tmp_path):
    with pytest.raises(InvalidArgument, match=r"labels\[0\]: 'bird' is not the background"):
        archive.create("finds", SSDLITE, weights, ("bird", "cat", "dog"), tmp_path)


def test_cards_without_a_fit_are_as_they_were():
    assert "fit" not in models.Preprocessing().to_dict()
    stretched = models.default_preprocessing(SSDLITE)
    assert models.Preprocessing.from_dict(stretched.to_dict()) == stretched
    with pytest.raises(InvalidArgument, match=r"preprocessing.fit: 'squeeze' must be crop or stretch"):
        models.Preprocessing.from_dict(models.Preprocessing().to_dict() | {"fit": "squeeze"})


def test_a_detector_cannot_pass_for_a_classifier(weights, tmp_path):
    with pytest.raises(InvalidArgument, match="is a detector, its task is detection, not classification"):
        archive.create("finds", SSDLITE, weights, LABELS, tmp_path, task="classification")


@pytest.mark.parametrize("classes", [1, 1001])
def test_the_number_of_classes_is_bounded(classes):
    with pytest.raises(InvalidArgument, match=f"num_classes: {classes} classes; a detector tells 2 to 1000 apart"):
        models.build(SSDLITE, classes)


def test_masks_and_keypoints_are_not_served():
    with pytest.raises(NotFound, match="no network named 'maskrcnn_resnet50_fpn'"):
        models.build("torchvision:maskrcnn_resnet50_fpn", 3)


def test_the_labels_of_coco_are_torchvisions():
    labels = models.read_labels("coco")
    assert (len(labels), labels[0], labels[17]) == (91, "__background__", "cat")


def test_a_classifiers_weights_become_the_backbone_by_name():
    classifier = seeded("timm:test_resnet", 7)
    (arch,) = detection.architectures_over("timm:test_resnet")
    network = models.build(arch, 3)
    detection.load_backbone(network, classifier.state_dict())
    kept = network.get_submodule("backbone.model").state_dict()
    assert kept
    assert all(torch.equal(tensor, classifier.state_dict()[name]) for name, tensor in kept.items())
    with pytest.raises(InvalidArgument, match=r"weights: conv1.0.weight is missing where the backbone has"):
        detection.load_backbone(network, {})


def test_detectors_compute_exactly(weights, tmp_path):
    with pytest.raises(InvalidArgument, match="precision: bf16 is for others; detectors compute exactly"):
        archive.create("finds", SSDLITE, weights, LABELS, tmp_path, precision="bf16")
