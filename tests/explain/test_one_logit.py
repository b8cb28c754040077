"""A network of one logit behind the service: its probability is a sigmoid wherever one is used."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ouzel.explain import ExplainService, RawRequest
from ouzel.models import Model
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from support.pictures import png


def binary(model: Model, bias: float, sign: int = 1) -> Model:
    network = nn.Sequential(*list(model.network)[:-1], nn.Linear(8, 1))  # type: ignore[arg-type]
    with torch.no_grad():
        network[-1].weight.copy_(sign * torch.linspace(1, 3, 8))  # type: ignore[arg-type]
        network[-1].bias.fill_(bias)  # type: ignore[union-attr]
    return replace(model, network=network.eval().requires_grad_(False), labels=("defect",))


def ask(service: ExplainService, options: object = None) -> pb.Explanation:
    return service.answer([RawRequest(image=png(0), options=json.dumps(options or {}))])[0].envelope


@pytest.fixture(scope="module", params=[-2.5, 1.5])
def service(request: pytest.FixtureRequest, tiny: Model) -> ExplainService:
    return ExplainService(binary(tiny, request.param))


def test_the_score_is_the_sigmoid_of_the_logit(service: ExplainService) -> None:
    (score,) = ask(service).scores
    assert (score.index, score.label) == (0, "defect")
    assert score.probability == pytest.approx(1 / (1 + math.exp(-score.logit)), rel=1e-6)
    assert 0.01 < score.probability < 0.99


def test_conditions_are_about_the_sigmoid(service: ExplainService) -> None:
    p = ask(service).scores[0].probability
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    for condition, least in (("score_below", p), ("entropy_above", entropy)):
        for limit in (least - 0.01, least + 0.01):
            answer = ask(service, {"saliency": ["gradient"], "when": {condition: limit}})
            holds = least < limit if condition == "score_below" else least > limit
            assert len(answer.saliency) == holds, (condition, limit, answer.skipped, answer.error)
    assert ask(service, {"when": {"entropy_above": 0.7}}).error.field == "when.entropy_above"  # ln 2 is the most


def test_rise_tells_networks_apart(tiny: Model) -> None:
    maps = []
    for sign in (1, -1):
        answer = ask(ExplainService(binary(tiny, 0.0, sign)), {"saliency": [{"method": "rise", "masks": 32}]})
        maps.append(tensors.decode(answer.saliency[0].values))
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    # Both logits of each masked image add up to zero, so both probabilities add up to one: the mean of the masks.
    from ouzel.saliency.methods.rise import Rise
    from ouzel.saliency.random_masks import random_masks

    (masks,) = random_masks(Rise(masks=32), torch.zeros(1, 3, 32, 32), 32)
    mean = masks.sum(dim=0).numpy() / (32 * 0.5)
    np.testing.assert_allclose(maps[0] + maps[1], mean, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ({"contrast": [0, 0]}, "one class"),
        ({"contrast": ["defect", 1]}, "one class"),
        ({"top": 2}, "1..1"),
        (1, "0..0"),
    ],
)
def test_targets_that_need_more_classes(service: ExplainService, target: object, told: str) -> None:
    error = ask(service, {"saliency": [{"method": "gradient", "target": target}]}).error
    assert error.code == pb.Error.INVALID_ARGUMENT
    assert error.field == "saliency[0].target"
    assert told in error.message


@pytest.mark.parametrize("target", [None, 0, "defect", "0", {"top": 1}, {"rank": 0}])
def test_targets_of_the_one_class(service: ExplainService, target: object) -> None:
    wish = {"method": "gradient"} | ({} if target is None else {"target": target})
    (saliency,) = ask(service, {"saliency": [wish]}).saliency
    assert saliency.target == pb.ResolvedTarget(index=0, label="defect")
    assert saliency.maximum > 0
