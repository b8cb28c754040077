"""Probabilities and entropy, against sums written out."""

from __future__ import annotations

import math

import pytest
import torch

from ouzel import models


def test_one_logit_is_a_sigmoid() -> None:
    logits = torch.tensor([[-3.0], [0.0], [2.0]], dtype=torch.float64)
    expected = [1 / (1 + math.exp(-value)) for value in (-3, 0, 2)]
    assert models.probabilities(logits).flatten().tolist() == pytest.approx(expected)
    uncertain = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in expected]
    assert models.entropy(logits).tolist() == pytest.approx(uncertain)
    assert max(uncertain) == pytest.approx(models.most_entropy(1)) == math.log(2)


def test_several_logits_are_a_softmax() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    weights = [math.exp(value) for value in (1, 2, -1)]
    expected = [weight / sum(weights) for weight in weights]
    assert models.probabilities(logits)[0].tolist() == pytest.approx(expected)
    assert float(models.entropy(logits)) == pytest.approx(-sum(p * math.log(p) for p in expected))
    assert models.most_entropy(3) == math.log(3)


@pytest.mark.parametrize("value", [-1000.0, 1000.0])
def test_certainty_has_no_entropy(value: float) -> None:
    assert float(models.entropy(torch.tensor([value]))) == 0
    assert float(models.probabilities(torch.tensor([value]))) == (value > 0)
