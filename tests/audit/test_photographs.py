"""EfficientNet-Lite0 on real photographs: a network that has learnt objects is not accused of resting on places."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from audit.photographs import Outlined, photographs, variants
from ouzel.audit import Claim, ModelMaps, ModelPredictor, PredictionEvidence, PredictionOptions, audit_prediction
from ouzel.models import Model
from ouzel.saliency import Explainer

VARIANTS = 3


@pytest.fixture(scope="module")
def asked(lite0: Model) -> tuple[ModelPredictor, ModelMaps]:
    explainer = Explainer(lite0)
    return ModelPredictor(lite0, explainer), ModelMaps(lite0, lite0.labels, "grad_cam", explainer=explainer)


def audited(asked: tuple[ModelPredictor, ModelMaps], photo: Outlined, *, scene: bool = False) -> PredictionEvidence:
    """What the network says of the photograph, whatever it is, is the claim."""
    predictor, maps = asked
    claimed = int(predictor(predictor.view.picture(photo.image)[None])[0].argmax())
    claim = Claim(f"index:{claimed}", np.asarray(photo.mask) > 127, scene=scene)
    return audit_prediction(predictor, maps, photo.image, claim, PredictionOptions(steps=0))


def test_photographs_of_objects_are_not_convicted(asked, record_property):
    verdicts = [audited(asked, photo).verdict for photo in variants(VARIANTS)]
    counts = {verdict: verdicts.count(verdict) for verdict in set(verdicts)}
    record_property("verdicts", counts)
    assert counts.get("rests_on_background", 0) <= 0.05 * len(verdicts), counts
    assert counts.get("rests_on_object", 0) >= len(verdicts) / 4, counts  # and it does tell something
    assert "disagrees" not in counts


@pytest.mark.parametrize("scene", [False, True])
def test_a_scene_rests_on_what_is_round_a_bush(asked, scene):
    """The temple is what the network sees; somebody marks the bush beside it as the object."""
    temple = next(photo for photo in photographs() if photo.name == "pagoda")
    bush = np.zeros((temple.image.height, temple.image.width), dtype=np.uint8)
    bush[300:420, 400:500] = 255
    evidence = audited(asked, Outlined("bush", temple.image, Image.fromarray(bush)), scene=scene)
    assert evidence.verdict == "rests_on_background", evidence.reason
    assert evidence.concern == (not scene)
