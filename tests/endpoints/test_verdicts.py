"""A model behind an endpoint is audited to the verdict that it gets at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit.scenes import EDGE, LABELS, Stub, by_object, by_place, scene
from ouzel.audit import (
    AnswerMaps,
    Claim,
    Pool,
    PredictionEvidence,
    PredictionOptions,
    Predictor,
    Scene,
    audit_prediction,
)
from ouzel.endpoints.description.file import parse
from ouzel.endpoints.open import open_endpoint
from support import http_services, oip

POOL = Pool([Scene(f"{label}-{n}", label, *scene(label, label, 100 + n)) for label in LABELS for n in range(4)])
HEAD = f"size = [{EDGE}, {EDGE}]\nlabels = {list(LABELS)!r}\nrequests_per_second = 10000\n"
UINT8 = '[animals.input]\nlayout = "NHWC"\ndatatype = "UINT8"\n[animals.output]\nscores = "probabilities"\n'
JSON = '[animals.input]\nimage = "body"\n[animals.output]\n'
JSON += 'form = "array"\npath = "predictions[0].scores"\nscores = "probabilities"\n'


@contextmanager
def over_oip_rest(stub: Stub) -> Iterator[tuple[str, str]]:
    model = oip.OipModel(stub, input=("image", "UINT8", [-1, EDGE, EDGE, 3]), output=("p", "FP64", [-1, 3]))
    with oip.rest(model) as url:
        yield f'url = "{url}/v2/models/toy"\n', UINT8


@contextmanager
def over_oip_grpc(stub: Stub) -> Iterator[tuple[str, str]]:
    model = oip.OipModel(stub, input=("image", "UINT8", [-1, EDGE, EDGE, 3]), output=("p", "FP64", [-1, 3]))
    with oip.over_grpc(model) as url:
        yield f'url = "{url}"\nkind = "oip"\nmodel = "toy"\n', UINT8


@contextmanager
def over_http(stub: Stub) -> Iterator[tuple[str, str]]:
    with http_services.classifier(lambda pixels: stub(pixels[None])[0].tolist(), LABELS) as url:
        yield f'url = "{url}/body?as=array"\nkind = "http-json"\n', JSON


def audited(predictor: Predictor, label: str, place: str) -> PredictionEvidence:
    picture, mask = scene(label, place, 7)
    image = Image.fromarray(picture)
    return audit_prediction(
        predictor, AnswerMaps(predictor), image, Claim(label, mask), PredictionOptions(steps=4), pool=POOL
    )


@pytest.mark.parametrize("served", [over_oip_rest, over_oip_grpc, over_http])
@pytest.mark.parametrize(
    ("logits", "place", "verdict"),
    [
        (by_place, "sheep", "rests_on_background"),
        (by_object, "goat", "rests_on_object"),
        (by_place, "goat", "disagrees"),
    ],
)
def test_the_verdict_is_that_of_the_model_at_hand(
    tmp_path: Path, served: Callable, logits: Callable, place: str, verdict: str
) -> None:
    at_hand = audited(Stub(logits), "sheep", place)
    with served(Stub(logits)) as (head, rest):
        endpoint = parse(f"[animals]\n{head}{HEAD}{rest}", tmp_path)["animals"]
        with open_endpoint(endpoint) as asked:
            evidence = audited(asked, "sheep", place)
    assert evidence.verdict == at_hand.verdict == verdict
    assert evidence.source.kind == "endpoint"
    np.testing.assert_allclose(
        [each.probability for each in evidence.outcomes], [each.probability for each in at_hand.outcomes], atol=1e-6
    )
