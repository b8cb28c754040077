"""Real networks on real images, and what is told of them."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.finetune import Example, Tuned, finetune, make_recipe
from ouzel.finetune import report as reports
from ouzel.finetune.features import Features, file_cache
from ouzel.finetune.network import backbone, linear_head, resized
from ouzel.finetune.pictures import Pictures
from ouzel.finetune.report import curves
from ouzel.models import Model

SIZE = 64  # pixels: a twelfth of the work


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def tuned_digits(lite0, digits, cache) -> dict[str, Tuned]:
    """The three recipes on the same digits. Mirrored digits are others, so nothing is flipped."""
    chosen = {
        "feature_extractor": make_recipe("feature_extractor", {}),
        "lp_ft": make_recipe("lp_ft", {"flip": False, "crop": 0.8, "epochs": 3}),
        "scratch": make_recipe("scratch", {"flip": False, "epochs": 1}),
    }
    return {
        name: finetune(lite0, digits, recipe, image_size=SIZE, cache=cache, seed=1) for name, recipe in chosen.items()
    }


def test_digits(tuned_digits):
    """50 images per class of MNIST on EfficientNet-Lite0: transfer is worth something, and training on more."""
    accuracies = {name: tuned.test.accuracy for name, tuned in tuned_digits.items()}
    print({name: (tuned.test.accuracy, tuned.test.interval) for name, tuned in tuned_digits.items()})
    assert accuracies["lp_ft"] >= accuracies["feature_extractor"] >= accuracies["scratch"]
    assert accuracies["feature_extractor"] > 0.8


def test_the_head_is_as_good_as_scikit_learns(lite0, digits, cache, tuned_digits):
    tuned = tuned_digits["feature_extractor"]
    base = dataclasses.replace(lite0, preprocessing=resized(lite0.preprocessing, SIZE))
    same = file_cache(cache, lite0.digest, base.preprocessing)
    features = Features(backbone(base, linear_head(lite0.network, lite0.arch, 3)), Pictures(base.preprocessing), same)
    known = (*tuned.split.train, *tuned.split.validation)
    x = features.of(known)
    mean, deviation = x.mean(0), x.std(0).clamp(min=1e-6)
    accuracies = []
    for c in (1e-4, 1e-3, 1e-2, 1e-1):
        model = LogisticRegression(C=c, max_iter=2000, tol=1e-3)
        cut = len(tuned.split.train)
        scaled = ((x - mean) / deviation).numpy()
        labels = [each.label for each in known]
        right = model.fit(scaled[:cut], labels[:cut]).score(scaled[cut:], labels[cut:])
        test = ((features.of(tuned.split.test) - mean) / deviation).numpy()
        accuracies.append((right, model.fit(scaled, labels).score(test, [each.label for each in tuned.split.test])))
    best = max(accuracies, key=lambda pair: pair[0])[0]
    theirs = [test for right, test in accuracies if right == best]  # of equals we take the one with the least loss
    print("ours", tuned.test.accuracy, "scikit-learn", theirs)
    assert min(abs(tuned.test.accuracy - each) for each in theirs) <= 0.01


def test_textures(lite0, textures, cache):
    tuned = finetune(lite0, textures, make_recipe("lp_ft", {"epochs": 1}), image_size=SIZE, cache=cache)
    print(tuned.test.accuracy, tuned.test.interval, tuned.validation)
    assert tuned.test.accuracy >= 0.95


def test_a_tuned_network_is_the_base_of_another(lite0, textures, digits, cache):
    first = finetune(lite0, textures, "feature_extractor", image_size=SIZE, cache=cache)
    base = Model("textures", "1", first.network, first.labels, first.preprocessing, lite0.arch, "sha256:textures", {})
    second = finetune(base, digits, "feature_extractor", cache=cache)
    assert second.labels == tuple(f"digit {n}" for n in range(10))
    assert second.preprocessing.input_size == (SIZE, SIZE)
    assert second.test.accuracy > 0.8


def test_what_comes_out_is_what_is_measured(tuned_digits):
    """The network, fed as it will be served, gives the figures of the result."""
    tuned = tuned_digits["lp_ft"]
    assert not tuned.network.training
    assert not any(parameter.requires_grad for parameter in tuned.network.parameters())
    some = tuned.split.test[::7]
    x = torch.stack([tuned.preprocessing(models.decode(each.read())) for each in some])
    torch.testing.assert_close(tuned.network(x), tuned.logits[::7], atol=1e-3, rtol=1e-3)
    right = sum(tuned.labels[k] == e.label for k, e in zip(tuned.network(x).argmax(1), some, strict=True))
    assert abs(right / len(some) - tuned.test.accuracy) < 0.12


def test_the_report_holds_all_of_it(lite0, tuned_digits):
    tuned = tuned_digits["feature_extractor"]
    report = reports.make_report(lite0, tuned)
    assert report.view.method == "grad_cam"
    assert min(report.view.places) >= 6  # the 3 x 3 of the last layer are fog
    assert 0 < len(report.mistakes) <= 12
    classes = {label: index for index, label in enumerate(tuned.labels)}
    rows = {example.name: row for example, row in zip(tuned.split.test, tuned.logits.softmax(1), strict=True)}
    for one in report.mistakes:
        assert one.label != one.predicted == tuned.labels[int(rows[one.name].argmax())]
        assert [title for title, _ in one.maps] == [
            f"for {label}, {why} ({100 * float(rows[one.name][classes[label]]):.0f}\u00a0%)"
            for label, why in ((one.predicted, "as it says"), (one.label, "as is right"))
        ]
        assert all(drawn.shape == one.picture.shape == (384, 384, 3) for _, drawn in one.maps)
        assert not any(np.array_equal(drawn, one.picture) for _, drawn in one.maps)
    own = [float(rows[one.name][classes[one.label]]) for one in report.mistakes]
    wrong = [
        float(r[classes[e.label]])
        for e in tuned.split.test
        for r in [rows[e.name]]
        if int(r.argmax()) != classes[e.label]
    ]
    assert own == sorted(wrong)[: len(own)]  # the worst first
    assert len({one.label for one in report.compared}) == len(report.compared)
    assert all([title[:5] for title, _ in one.maps] == ["befor", "after"] for one in report.compared)
    figures = reports.summary(report)
    assert json.loads(json.dumps(figures))["accuracy"] == tuned.test.accuracy
    assert sum(map(sum, figures["confusion"])) == tuned.test.images
    page = reports.files(report, "Digits <by> us", {"base": "lite0"})["report.html"][1].decode()
    assert "Digits &lt;by&gt; us" in page
    assert page.count("data:image/jpeg") >= 3 * len(report.mistakes) + 3 * len(report.compared)
    assert curves.png(()) is None
    drawn = curves.png(tuned_digits["lp_ft"].history)
    assert drawn is not None
    assert drawn.startswith(b"\x89PNG")


def test_masks_tell_how_much_of_the_map_is_on_the_object(tiny, colours):
    def mask(left: int, right: int) -> bytes:
        image = Image.new("L", (40, 40))
        image.paste(255, (left, 0, right, 40))
        out = io.BytesIO()
        image.save(out, "PNG")
        return out.getvalue()

    def inside(left: int, right: int, boxes: bool = False) -> float:
        given = {"boxes": ((left, 0, right, 40),)} if boxes else {"read_mask": lambda: mask(left, right)}
        data = [dataclasses.replace(each, **given) for each in colours]
        report = reports.make_report(tiny, finetune(tiny, data, "feature_extractor"))
        assert set(report.inside) == {"before", "after"}
        return report.inside["after"]

    whole = inside(0, 40)  # less than 1 only where a map is empty
    assert 0 < whole <= 1
    assert inside(0, 20, boxes=True) == pytest.approx(inside(0, 20), abs=1e-6)
    assert inside(0, 20) + inside(20, 40) == pytest.approx(whole, abs=0.02)


def test_boxes_that_leave_the_image_end_at_its_edges(tiny, colours):
    pictures = Pictures(tiny.preprocessing)
    far = dataclasses.replace(colours[0], boxes=((-1e12, 0, 20, 1e12),))
    near = dataclasses.replace(colours[0], boxes=((0, 0, 20, 40),))
    assert torch.equal(pictures.mask(far), pictures.mask(near))


@pytest.mark.parametrize("recipe", ["feature_extractor", make_recipe("fine_tune", {"epochs": 1})])
def test_a_base_of_one_logit_gets_a_head_for_the_new_classes(tiny, colours, recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build(tiny.arch, num_classes=1)
    base = dataclasses.replace(tiny, network=network, labels=("defect",))
    tuned = finetune(base, colours, recipe)
    assert tuned.labels == ("blue", "red")
    assert tuned.logits.shape == (tuned.test.images, 2)
    report = reports.make_report(base, tuned)
    for one in report.compared:
        before, after = (title for title, _ in one.maps)
        assert before.startswith("before: defect (")
        assert after.startswith(f"after: {one.predicted} (")


def test_a_size_that_the_network_cannot_take_is_named(colours):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build("torchvision:vit_b_32", num_classes=5)
    preprocessing = models.Preprocessing(input_size=(224, 224), resize=224)
    base = Model("v", "1", network, tuple("abcde"), preprocessing, "torchvision:vit_b_32", "sha256:v", {})
    with pytest.raises(InvalidArgument, match=r"image_size: .* 64 x 64 pixels; it takes 224 x 224"):
        finetune(base, colours, "fine_tune", image_size=64)


def test_an_image_that_cannot_be_read_is_named(tiny, colours):
    broken = Example("red/broken.png", "red", "0" * 64, lambda: b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(InvalidArgument, match=r"data: red/broken\.png: image: is broken"):
        finetune(tiny, [*colours, broken], "feature_extractor")


def test_any_network_can_be_fine_tuned(colours):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build("torchvision:squeezenet1_1", num_classes=5)
    preprocessing = models.Preprocessing(input_size=(48, 48), resize=48)
    base = Model("s", "1", network, tuple("abcde"), preprocessing, "torchvision:squeezenet1_1", "sha256:s", {})
    tuned = finetune(base, colours, make_recipe("fine_tune", {"epochs": 1}))
    assert tuned.labels == ("blue", "red")
    with pytest.raises(FailedPrecondition, match="one linear layer"):
        finetune(base, colours, "lp_ft")
