"""What else is told of images: a second model's score, and the path that they take through the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

from ouzel.errors import InvalidArgument
from ouzel.maximize import Channel, ClassLogit, Maco, Pixel, maximize, report
from ouzel.maximize.path import Paths, average_ranks, outputs_of, stages
from ouzel.maximize.photographs import Photographs
from ouzel.maximize.report import gallery
from ouzel.models import Model, Preprocessing
from ouzel.models.photographs import from_folder, labels_of

GREY = Preprocessing(1, (28, 28), 28, "bilinear", (0.1,), (0.3,))
QUICK = Pixel(steps=3, jitter=0)


def model(network: nn.Module, digest: str, labels: tuple[str, ...]) -> Model:
    return Model("digits", "1.0", network, labels, GREY, "torchvision:none", digest, {})


LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def photographs(digits, classes=(3, 8), each=4):
    """Names with labels, and images."""
    rows = [int(row) for label in classes for row in (digits[1] == label).nonzero().flatten()[:each]]
    return [(f"{row}.png", digits[0][row]) for row in rows], {f"{row}.png": str(int(digits[1][row])) for row in rows}


def test_ranks_share_the_mean_of_equal_values():
    values = torch.randint(-3, 4, (500,), generator=torch.Generator().manual_seed(0)).float()
    assert np.array_equal(average_ranks(values).numpy(), stats.rankdata(values.numpy()))


def test_a_path_is_what_spearman_says(cnn, digits):
    """Against scipy, pair by pair."""
    images, same, others = (list(digits[0][digits[1] == label][:3]) for label in (5, 3, 8))
    layers = stages(cnn, images[0][None])
    assert layers == ("conv1", "conv2", "fc1", "fc2")
    found = Paths(cnn, layers).compare(images, same, others)

    def likeness(a, b, layer):
        one, two = (outputs_of(cnn, x[None], [layer])[layer].flatten().numpy() for x in (a, b))
        return stats.spearmanr(one, two).statistic

    for row, path in enumerate(found):
        assert (path.photographs, path.others) == (3, 3)
        for told in path.layers:
            alike = [[likeness(a, b, told.layer) for b in same if b is not a] for a in same]
            away = [[likeness(a, b, told.layer) for b in others] for a in same]
            apart = np.mean(alike, 1) - np.mean(away, 1)
            assert told.image == pytest.approx(np.mean([likeness(images[row], b, told.layer) for b in same]), abs=1e-4)
            assert told.same == pytest.approx(np.mean(alike), abs=1e-4)
            assert told.other == pytest.approx(np.mean(away), abs=1e-4)
            if apart.mean() > 2 * apart.std(ddof=1) / 3**0.5:
                assert told.score == pytest.approx((told.image - told.other) / (told.same - told.other), rel=1e-3)
            else:
                assert told.score is None


def test_photographs_of_the_class_take_its_path_and_others_do_not(cnn, digits):
    threes, eights = (digits[0][digits[1] == label] for label in (3, 8))
    unseen = [*threes[20:24], *eights[20:24]]
    found = Paths(cnn, ["fc1"]).compare(unseen, list(threes[:12]), list(eights[:12]))
    scores = [path.layers[0].score for path in found]
    assert np.mean(scores[:4]) == pytest.approx(1, abs=0.3)
    assert np.mean(scores[4:]) == pytest.approx(0, abs=0.4)


def test_the_path_of_images_that_were_sought(cnn, digits):
    data, labels = photographs(digits)
    nodes, options = [Channel("conv2", 1), ClassLogit(3)], {"size": (28, 28), "channels": 1, "recipe": QUICK}
    result = maximize(cnn, nodes, **options, images_per_target=2, data=data, data_labels=labels, path=True)
    assert [one.path is None for one in result.visualizations] == [True, True, False, False]
    path = result.visualizations[3].path
    same, others = ([image for name, image in data if labels[name] == label] for label in "38")
    (expected,) = Paths(cnn, [one.layer for one in path.layers]).compare([result.visualizations[3].image], same, others)
    for told, again in zip(path.layers, expected.layers, strict=True):
        assert (told.layer, told.image) == (again.layer, pytest.approx(again.image, abs=1e-5))
        assert told.score == pytest.approx(again.score, rel=1e-2)
    described = report.of_result(result, ["0", "1", "2", "3"])
    assert described["found"][3]["path"]["layers"][0]["layer"] == "conv1"
    assert any(line.startswith("Path, 1 as") for line in gallery.tiles_of(result.visualizations)[3].lines)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data": None}, "path: needs photographs"),
        ({"targets": [Channel("conv1", 0)]}, "path: no target is a class"),
        ({"targets": [ClassLogit(4)]}, "path: 0 photographs of '4' and 8 of other classes"),
        ({"classes": (3,)}, "path: 4 photographs of '3' and 0 of other"),
        ({"size": (32, 32)}, "path: the photographs have"),
    ],
)
def test_a_path_that_cannot_be_told_is_refused(digits, change, told):
    torch.manual_seed(0)
    network = nn.Sequential()
    network.conv1 = nn.Conv2d(1, 4, 3)
    network.pool, network.flat, network.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    data, labels = photographs(digits, change.pop("classes", (3, 8)))
    options = {"targets": [ClassLogit(3)], "size": (28, 28), "channels": 1, "data": data, "recipe": QUICK, **change}
    with pytest.raises(InvalidArgument, match=told) as caught:
        maximize(network, data_labels=labels, path=True, on_step=lambda _: pytest.fail("a step"), **options)
    assert caught.value.field == "path"


def test_photographs_are_kept_by_their_class():
    image = torch.zeros(1, 2, 2)
    labels = {f"{n}": label for n, label in enumerate(["a"] * 40 + ["b"] * 40 + ["c"])} | {"none": ""}
    kept = Photographs(frozenset("a"), labels)
    assert len(list(kept.keep((name, image) for name in (*labels, "unknown")))) == 83
    assert (len(kept.classes["a"]), len(kept.others), len(kept.unlabelled)) == (16, 32, 2)
    assert {label for label, _ in kept.others} == {"b", "c"}


def test_a_second_model_is_asked_as_it_is_served(cnn, other_cnn):
    """Its classes are in another order, and found by their labels."""
    order = [*range(5, 10), *range(5)]
    judge = model(other_cnn, "sha256:b", tuple(LABELS[i] for i in order))
    targets = [ClassLogit("seven"), Channel("conv1", 2), ClassLogit(0)]
    result = maximize(model(cnn, "sha256:a", LABELS), targets, recipe=Maco(steps=4, views_per_step=1), judge=judge)
    assert result.visualizations[1].independent is None
    for row, index in ((0, order.index(7)), (2, order.index(0))):
        one = result.visualizations[row]
        picture = Image.fromarray((one.image[0] * 255).round().byte().numpy())
        x = (torch.tensor(np.asarray(picture)) / 255 - 0.1) / 0.3
        with torch.no_grad():
            expected = other_cnn(x[None, None]).softmax(1)[0]
        said = one.independent
        assert (said.model, said.digest, said.label) == ("digits@1.0", "sha256:b", judge.labels[index])
        assert said.probability == pytest.approx(float(expected[index]), abs=1e-5)
        assert said.rank == 1 + sum(float(p) > float(expected[index]) for p in expected)
        assert said.first == judge.labels[int(expected.argmax())]
    described = report.of_result(result, ["0", "1", "2"])
    assert described["found"][0]["independent"]["rank"] == result.visualizations[0].independent.rank
    warned = [line for line in described["warnings"] if "digits@1.0 does not recognise it" in line]
    assert len(warned) == sum(one.independent is not None and one.independent.rank > 1 for one in result.visualizations)
    assert any(line.startswith("digits@1.0: ") for line in gallery.tiles_of(result.visualizations)[0].lines)


@pytest.mark.parametrize(
    ("judge", "targets", "told"),
    [
        (("sha256:a", LABELS), [ClassLogit(1)], "has the weights of the model itself"),
        (("sha256:b", LABELS[:9]), [ClassLogit("nine")], "has no class 'nine'"),
        (("sha256:b", (*LABELS[:8], "nine", "nine")), [ClassLogit(9)], "has several classes 'nine'"),
        (("sha256:b", ()), [ClassLogit(1)], "by their labels"),
        (("sha256:b", LABELS), [Channel("conv1", 1)], "no target is a class"),
    ],
)
def test_a_judge_that_cannot_judge_is_refused(judge, targets, told):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(2, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.conv1(x).mean((2, 3)))

    with pytest.raises(InvalidArgument, match=told) as caught:
        maximize(model(Net().eval(), "sha256:a", LABELS), targets, recipe=QUICK, judge=model(Net().eval(), *judge))
    assert caught.value.field == "judge"


def test_folders_are_classes(tmp_path):
    for name in ("cat/1.png", "cat/more/2.png", "dog/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28)).save(tmp_path / name)
    assert [one.name for one in from_folder(tmp_path, GREY)] == ["cat/1.png", "cat/more/2.png", "dog/1.png"]
    assert labels_of(tmp_path) == {"cat/1.png": "cat", "cat/more/2.png": "cat", "dog/1.png": "dog"}
    assert labels_of(tmp_path / "dog") == {}
