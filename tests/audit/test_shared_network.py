"""A predictor and maps that share a prepared network, and how many pictures an audit shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ouzel import models
from ouzel.audit import (
    AnswerMaps,
    Claim,
    ModelMaps,
    ModelPredictor,
    Pool,
    PredictionOptions,
    Scene,
    audit_prediction,
    most_pictures,
)
from ouzel.errors import InvalidArgument
from ouzel.saliency import Explainer

ARCH = "timm:test_resnet"
LABELS = ("cat", "dog", "bird")
PIXELS = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)
MASK = np.zeros((70, 80), bool)
MASK[20:50, 30:60] = True


@pytest.fixture(scope="module")
def model() -> models.Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.build(ARCH, num_classes=3).eval()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
    return models.Model("m", "1", network, LABELS, models.default_preprocessing(ARCH), ARCH, "sha256:0", {})


@pytest.fixture(scope="module")
def explainer(model: models.Model) -> Explainer:
    return Explainer(model)


class Counting:
    """A predictor that counts its pictures."""

    def __init__(self, model: models.Model, explainer: Explainer) -> None:
        self._predictor = ModelPredictor(model, explainer)
        self.source, self.labels, self.view = self._predictor.source, LABELS, self._predictor.view
        self.count = 0

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        self.count += len(pictures)
        return self._predictor(pictures)


def test_the_prepared_network_says_the_same(model: models.Model, explainer: Explainer) -> None:
    plain, prepared = ModelPredictor(model), ModelPredictor(model, explainer)
    height, width = model.preprocessing.input_size
    pictures = np.random.default_rng(1).integers(0, 256, (40, height, width, 3), dtype=np.uint8)
    np.testing.assert_allclose(prepared(pictures), plain(pictures), atol=1e-5)


def test_unknown_methods_are_refused_at_once(model: models.Model, explainer: Explainer) -> None:
    with pytest.raises(InvalidArgument, match=r"method: 'grad_camm' is not one of .*; did you mean 'grad_cam'"):
        ModelMaps(model, LABELS, "grad_camm", explainer=explainer)


@pytest.mark.parametrize("by_answers", [False, True])
@pytest.mark.parametrize("scenes", [0, 3])
def test_the_number_of_pictures_is_known_beforehand(
    model: models.Model, explainer: Explainer, scenes: int, by_answers: bool
) -> None:
    predictor = Counting(model, explainer)
    height, width = model.preprocessing.input_size
    mask = np.zeros((height, width), bool)
    mask[5:20, 5:20] = True
    blank = np.zeros((height, width, 3), np.uint8)
    pool = Pool([Scene(f"{label}{number}", label, blank, mask) for label in LABELS for number in range(scenes)])
    options = PredictionOptions(steps=3, random_orders=2, scenes=2)
    maps = AnswerMaps(predictor) if by_answers else ModelMaps(model, LABELS, "gradient", explainer=explainer)
    claim = Claim("index:1", mask=MASK)
    evidence = audit_prediction(predictor, maps, Image.fromarray(PIXELS), claim, options, pool=pool)
    assert predictor.count == most_pictures(options, scenes=len(pool.scenes), by_answers=by_answers)
    same = [each.name for each in evidence.outcomes if each.change in ("same_object", "same_background")]
    assert len(same) == 2 * min(scenes, 2)
    assert all("/dog" in name for name in same)  # drawn by the class, however it was named
