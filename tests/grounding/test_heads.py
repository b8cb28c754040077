"""The averaged heads against scikit-learn, and on features of which it is known what is spurious."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ouzel.finetune import Example
from ouzel.finetune.head import Featured, choose_head
from ouzel.grounding.heads import AveragedHeads, balanced_half, fit_sparse


def drawn(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    features = torch.randn(count, 12, generator=generator) * torch.linspace(0.5, 3, 12) + 1
    features[torch.arange(count), labels] += 1.5
    return features, labels


def objective(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, c: float) -> float:
    logits = x @ weight.T + bias
    logits -= logits.max(1, keepdims=True)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    return float(c * losses.sum() + np.abs(weight).sum())


@pytest.mark.parametrize("c", [0.1, 1.0, 5.0])
def test_the_sparse_head_is_that_of_scikit_learn(c: float) -> None:
    features, classes = drawn(120, 3, 0)
    mean, deviation = features.mean(0), features.std(0)
    x, y = ((features - mean) / deviation).double().numpy(), classes.numpy()
    head = fit_sparse(features, classes, torch.ones(3), c)
    weight = (head.weight * deviation).double().numpy()
    bias = (head.bias + head.weight @ mean).double().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions name the penalty in another way
        saga = LogisticRegression(penalty="l1", C=c, solver="saga", max_iter=20_000, tol=1e-7, random_state=0)
        theirs = saga.fit(x, y)
    best = objective(x, y, theirs.coef_, theirs.intercept_, c)
    assert objective(x, y, weight, bias, c) <= best * 1.001 + 1e-6
    assert ((weight != 0) == (np.abs(theirs.coef_) > 1e-6)).mean() >= 0.9
    assert np.array_equal((x @ weight.T + bias).argmax(1), theirs.predict(x))


def examples(groups: list[tuple[str, str, int]]) -> tuple[Example, ...]:
    return tuple(
        Example(f"{label}{behind}{n}", label, "", lambda: b"", background=behind)
        for label, behind, count in groups
        for n in range(count)
    )


def test_halves_are_balanced_and_differ() -> None:
    some = examples([("a", "x", 10), ("a", "y", 7), ("b", "x", 9), ("b", "y", 30)])
    halves = [balanced_half(some, (0, number)) for number in range(3)]
    for rows in halves:
        counted = Counter((some[n].label, some[n].background) for n in rows)
        assert counted == dict.fromkeys([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")], 4)
        assert len(set(rows.tolist())) == 16
    assert not torch.equal(halves[0], halves[1])
    assert torch.equal(halves[0], balanced_half(some, (0, 0)))


def spurious(counts: dict[tuple[int, int], int], seed: int) -> Featured:
    """A weak feature is the class, a strong one the background; the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    features, classes, groups = [], [], []
    for (label, behind), count in counts.items():
        x = torch.randn(count, 6, generator=generator)
        x[:, 0] += 2.5 * (2 * label - 1)
        x[:, 1] = 6 * (2 * behind - 1) + x[:, 1]
        features.append(x)
        classes += [label] * count
        groups.append((str(label), str(behind), count))
    return Featured(torch.cat(features), torch.tensor(classes), examples(groups))


@pytest.mark.parametrize("sparse", [True, False])
def test_balanced_groups_mend_the_worst_group(sparse: bool) -> None:
    everywhere = dict.fromkeys([(0, 0), (0, 1), (1, 0), (1, 1)], 40)
    biased = spurious({(0, 0): 100, (1, 1): 100}, 0)
    balanced, validation, test = (spurious(everywhere, seed) for seed in (1, 2, 3))

    def worst(head: object) -> float:
        right = head.logits(test.features).argmax(1) == test.classes  # type: ignore[attr-defined]
        return min(float(right[n : n + 40].double().mean()) for n in range(0, 160, 40))

    plain = choose_head((biased.features, biased.classes), (biased.features, biased.classes), torch.ones(2))
    heads = AveragedHeads(5, sparse, 0)
    mended = heads.choose(balanced, validation, torch.ones(2))
    assert worst(plain) < 0.75 < 0.95 <= worst(mended)
    again = heads.refit(balanced, torch.ones(2), mended)
    assert torch.equal(again.weight, mended.weight)
    assert torch.equal(again.bias, mended.bias)
