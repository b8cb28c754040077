"""The scores of an answer, against a stable sort of all logits."""

from __future__ import annotations

import pytest
import torch

from ouzel.explain import encode


@pytest.mark.parametrize("classes", [1, 2, 7, 1000])
@pytest.mark.parametrize("kind", ["distinct", "ties", "equal", "zeros of both signs"])
def test_the_best_come_first_and_ties_go_to_the_lower_index(classes: int, kind: str) -> None:
    drawn = torch.randn(classes, generator=torch.Generator().manual_seed(classes))
    logits = {
        "distinct": drawn,
        "ties": drawn.round(),
        "equal": torch.full((classes,), 2.5),
        "zeros of both signs": torch.where(drawn > 0, 0.0, -0.0),
    }[kind]
    probabilities = logits.softmax(dim=0)
    labels = [f"label {index}" for index in range(classes)]
    expected = logits.argsort(descending=True, stable=True).tolist()
    for count in {0, 1, min(5, classes), classes}:
        scores = encode.scores(logits, probabilities, labels, count)
        assert [one.index for one in scores] == expected[:count]
        for one in scores:
            assert one.label == f"label {one.index}"
            assert (one.logit, one.probability) == (float(logits[one.index]), float(probabilities[one.index]))
