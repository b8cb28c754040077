"""The parts of a tuning against independent ones: scikit-learn, a plain loop, the network itself."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.finetune.features import Features, FileCache, file_cache, trim
from ouzel.finetune.head import choose_head, fit_head
from ouzel.finetune.metrics import class_weights, score, wilson
from ouzel.finetune.network import backbone, install_head, linear_head, renewed
from ouzel.finetune.pictures import Pictures
from ouzel.models import Model, Preprocessing
from ouzel.models.heads import head_tensors


def blobs(seed: int, count: int = 60, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 8, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(count) % classes
    return centres[labels] + torch.randn(count, 8, generator=chance), labels


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_the_head_is_scikit_learns_logistic_regression(c):
    x, y = blobs(0)
    x = x * torch.logspace(-2, 2, 8) + 3  # features of very different sizes
    head = fit_head(x, y, torch.ones(3), c)
    standard = ((x - x.mean(0)) / x.std(0)).numpy()
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=10_000).fit(standard, y.numpy())
    expected = torch.tensor(theirs.predict_proba(standard), dtype=torch.float32)
    torch.testing.assert_close(head.logits(x).softmax(1), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("c", [0.01, 10.0])
def test_with_fewer_images_than_features_too(c):
    """Some of them are multiples of others, so that the images span even fewer dimensions."""
    x, y = blobs(0, 24)
    x = torch.cat([x @ torch.randn(8, 70, generator=torch.Generator().manual_seed(5)), 3 * x], 1)
    weights = class_weights(y[:20], 3)
    head = fit_head(x[:20], y[:20], weights, c, fit_head(x, y, torch.ones(3), c))  # and from another start
    mean, deviation = x[:20].mean(0), x[:20].std(0)
    model = LogisticRegression(C=c, tol=1e-10, max_iter=100_000, class_weight="balanced")
    theirs = model.fit(((x[:20] - mean) / deviation).numpy(), y[:20].numpy())
    expected = theirs.predict_proba(((x - mean) / deviation).numpy())  # four of them are new
    torch.testing.assert_close(head.logits(x).softmax(1), torch.tensor(expected).float(), atol=1e-4, rtol=1e-3)


def test_class_weights_are_scikit_learns():
    x, y = blobs(1)
    keep = (y != 2) | (torch.arange(len(y)) < 15)
    x, y = x[keep], y[keep]
    standard = ((x - x.mean(0)) / x.std(0)).numpy()
    theirs = LogisticRegression(C=0.1, tol=1e-8, max_iter=10_000, class_weight="balanced").fit(standard, y.numpy())
    head = fit_head(x, y, class_weights(y, 3), 0.1)
    expected = torch.tensor(theirs.predict_proba(standard), dtype=torch.float32)
    torch.testing.assert_close(head.logits(x).softmax(1), expected, atol=1e-4, rtol=1e-3)


def test_a_constant_feature_and_a_start_change_nothing():
    x, y = blobs(2)
    constant = torch.cat([x, torch.full((len(x), 1), 7.0)], 1)
    plain = fit_head(x, y, torch.ones(3), 0.1)
    torch.testing.assert_close(fit_head(constant, y, torch.ones(3), 0.1).weight[:, :8], plain.weight, atol=1e-4, rtol=0)
    started = fit_head(x, y, torch.ones(3), 0.1, fit_head(x, y, torch.ones(3), 0.01))
    torch.testing.assert_close(started.weight, plain.weight, atol=1e-4, rtol=0)


def test_the_strength_is_chosen_on_the_validation_images():
    train, held_out = blobs(3, 30), blobs(4, 300)
    best = choose_head(train, held_out, torch.ones(3))
    right = {
        c: float((fit_head(*train, torch.ones(3), c).logits(held_out[0]).argmax(1) == held_out[1]).float().mean())
        for c in (1e-4, 1e-2, 1.0, 10.0)
    }
    assert float((best.logits(held_out[0]).argmax(1) == held_out[1]).float().mean()) >= max(right.values())


def test_scores_are_scikit_learns():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(50) % 3  # nothing of the fourth
    scores = score(logits, classes)
    predicted = logits.argmax(1)
    assert scores.accuracy == pytest.approx(float((predicted == classes).float().mean()))
    kept = confusion_matrix(classes, predicted, labels=range(4))
    assert np.array_equal(scores.confusion, kept)
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        assert scores.balanced == pytest.approx(balanced_accuracy_score(classes, predicted))


@pytest.mark.parametrize(
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("torchvision:resnet18", "fc"),
        ("torchvision:mobilenet_v2", "classifier.1"),
        ("torchvision:vgg11", "classifier.6"),
        ("torchvision:densenet121", "classifier"),
        ("timm:tf_efficientnet_lite0", "classifier"),
    ],
)
def test_the_head_is_found_and_renewed(arch, head):
    network = models.build(arch, num_classes=5)
    base = Model("b", "1", network, tuple("abcde"), Preprocessing(), arch, "sha256:x", {})
    assert linear_head(network, arch, 3) == head
    new = renewed(base, 3, pretrained=True, seed=0)
    assert new.get_submodule(head).out_features == 3
    for name, tensor in network.state_dict().items():
        if name not in head_tensors(arch, 3):
            assert torch.equal(tensor, new.state_dict()[name]), name


def test_a_network_without_one_linear_head_is_refused_by_name():
    network = models.build("torchvision:squeezenet1_1", num_classes=5)
    with pytest.raises(FailedPrecondition, match="fine_tune takes any network"):
        linear_head(network, "torchvision:squeezenet1_1", 3)


def test_features_and_head_give_what_the_network_gives(lite0, digits):
    pictures = Pictures(lite0.preprocessing)
    name = linear_head(lite0.network, lite0.arch, 3)
    features = Features(backbone(lite0, name), pictures).of(digits[:5])
    head = lite0.network.get_submodule(name)
    with torch.no_grad():
        expected = lite0.network(pictures.as_served(digits[:5]))
        torch.testing.assert_close(head(features), expected, atol=2e-2, rtol=1e-2)  # float16 features
    network = copy.deepcopy(lite0.network)
    install_head(network, name, head.weight, head.bias)


def test_only_new_images_are_computed(tiny, colours, tmp_path):
    asked = []

    class Counted(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            asked.append(len(x))
            return self.inner(x)

    network = Counted(backbone(tiny, linear_head(tiny.network, tiny.arch, 3)))
    cache = file_cache(tmp_path, tiny.digest, tiny.preprocessing)
    pictures = Pictures(tiny.preprocessing)
    told: list[tuple[int, int]] = []
    first = Features(network, pictures, cache).of(colours[:10])
    again = Features(network, pictures, cache).of(colours[:14], tell=lambda *done: told.append(done))
    assert asked == [10, 4]
    assert told == [(14, 14)]
    assert torch.equal(first, again[:10])
    assert not torch.equal(Features(network, pictures, cache).of(colours[:1], mirrored=True), first[:1])


def test_another_backbone_or_preprocessing_has_another_cache(tmp_path, tiny):
    paths = {
        file_cache(tmp_path, tiny.digest, tiny.preprocessing).path,
        file_cache(tmp_path, "sha256:other", tiny.preprocessing).path,
        file_cache(tmp_path, tiny.digest, tiny.preprocessing.adapted(input_size=(40, 40))).path,
    }
    assert len(paths) == 3


def test_a_damaged_or_unwritable_cache_is_no_error(tmp_path, tiny, colours):
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"no database at all" * 100)
    pictures = Pictures(tiny.preprocessing)
    network = backbone(tiny, linear_head(tiny.network, tiny.arch, 3))
    assert Features(network, pictures, FileCache(path)).of(colours[:2]).shape == (
        2,
        network(torch.zeros(1, 3, 32, 32)).shape[1],
    )


def test_trimming_removes_the_oldest(tmp_path):
    import os

    for number, name in enumerate("abc"):
        (tmp_path / f"{name}.sqlite").write_bytes(bytes(100))
        os.utime(tmp_path / f"{name}.sqlite", (number, number))
    trim(tmp_path, 250)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["b", "c"]


def test_images_are_served_as_the_model_has_it(tiny, colours):
    served = Pictures(tiny.preprocessing).as_served(colours[:4])
    expected = torch.stack([tiny.preprocessing(models.decode(each.read())) for each in colours[:4]])
    assert torch.equal(served, expected)


def test_a_small_budget_keeps_less_and_gives_the_same(tiny, colours):
    small = Pictures(tiny.preprocessing, budget=4000)
    whole = Pictures(tiny.preprocessing)
    for _ in range(2):
        assert torch.equal(small.as_served(colours), whole.as_served(colours))
    assert small._bytes <= 4000
    assert math.isclose(whole._bytes, len(colours) * 3 * 32 * 32)
