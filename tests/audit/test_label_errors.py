"""Confident learning, against a plain reading of the paper and against errors that were planted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from ouzel.audit.dataset import DatasetDesign, ImageRow, audit_dataset
from ouzel.audit.dataset.label_errors import Answer, confident_joint, label_errors
from support.audited import LABELS, Flat, Known, by_object, examples, pictures


def _joint(given: list[int], probabilities: list[list[float]]) -> list[list[int]]:
    """Equations 1 and 2 of the paper, image by image."""
    count = len(probabilities[0])
    thresholds = {}
    for k in set(given):
        own = [row[k] for row, label in zip(probabilities, given, strict=True) if label == k]
        thresholds[k] = sum(own) / len(own)
    joint = [[0] * count for _ in range(count)]
    for row, label in zip(probabilities, given, strict=True):
        reached = [k for k in thresholds if row[k] >= thresholds[k] - 1e-9]
        if reached:
            joint[label][max(reached, key=lambda k: row[k])] += 1
    return joint


def test_the_confident_joint_is_that_of_the_paper() -> None:
    random = np.random.default_rng(0)
    for count in (2, 3, 6):
        probabilities = random.dirichlet(np.ones(count), 60)
        given = random.integers(0, max(2, count - 1), 60)  # of the last class there may be no label
        joint, likely = confident_joint(given, probabilities)
        assert joint.tolist() == _joint(given.tolist(), probabilities.tolist())
        assert joint.sum() == (likely >= 0).sum()


def test_planted_errors_are_found_among_digits() -> None:
    """Real digits, of which a twentieth gets a wrong label; the classifier learns from others that are right."""
    pixels, truth = load_digits(return_X_y=True)
    classifier = KNeighborsClassifier(20).fit(pixels[900:] / 16, truth[900:])
    probabilities, truth = classifier.predict_proba(pixels[:900] / 16), truth[:900]
    random = np.random.default_rng(1)
    wrong = random.choice(len(truth), 45, replace=False)
    given = truth.copy()
    given[wrong] = (given[wrong] + random.integers(1, 10, 45)) % 10
    rows = [ImageRow(str(n), str(label), true_label=str(label)) for n, label in enumerate(given)]
    answers = [(row, Answer.of(p, int(label))) for row, p, label in zip(rows, probabilities, given, strict=True)]
    result = label_errors(answers, [str(n) for n in range(10)])
    suspected = {int(each.name) for each in result.suspected}
    hits = suspected & set(wrong.tolist())
    # Confident learning passes over images of which the model is unsure. What it names is an error more often than an
    # image whose prediction is merely another class, and it is the most part of all errors.
    differ = set(np.flatnonzero(probabilities.argmax(1) != given).tolist())
    assert len(hits) / len(suspected) > len(differ & set(wrong.tolist())) / len(differ)
    assert len(hits) > len(wrong) / 2
    right = [each.suggested == str(truth[int(each.name)]) for each in result.suspected if int(each.name) in hits]
    assert np.mean(right) >= 0.9
    gaps = [each.suggested_probability - each.given_probability for each in result.suspected]
    assert gaps == sorted(gaps, reverse=True)
    assert result.checked == 900


def test_of_many_classes_the_best_are_enough() -> None:
    random = np.random.default_rng(2)
    probabilities = random.dirichlet(np.full(50, 0.05), 200)
    given = probabilities.argmax(1)
    given[:20] = (given[:20] + 7) % 50
    rows = [ImageRow(str(n), "x") for n in range(200)]
    answers = [(row, Answer.of(p, int(label))) for row, p, label in zip(rows, probabilities, given, strict=True)]
    assert max(len(each.classes) for _, each in answers) <= 21
    _, likely = confident_joint(given, probabilities)
    found = {int(each.name) for each in label_errors(answers, [str(n) for n in range(50)]).suspected}
    assert found == set(np.flatnonzero((likely >= 0) & (likely != given)).tolist())


def test_an_audit_checks_held_out_images_with_a_true_label() -> None:
    many = [dataclasses.replace(each, true_label=each.label, held_out=True) for each in examples(pictures(8))]
    many[3] = dataclasses.replace(many[3], true_label="goat")
    assert many[3].label == "sheep"
    design = DatasetDesign(fills=("mean",), images=1, clusters=False, suspects=0)
    result = audit_dataset(Known(by_object), Flat(), many, design).label_errors
    assert result.checked == 24
    assert [(each.name, each.given, each.suggested) for each in result.suspected] == [("sheep003", "goat", "sheep")]
    many = [dataclasses.replace(each, held_out=number != 3) for number, each in enumerate(many)]
    result = audit_dataset(Known(by_object), Flat(), many, design).label_errors
    assert (result.checked, result.suspected) == (23, ())


@pytest.mark.parametrize(
    "values", [{"held_out": True}, {"true_label": "sheep"}, {"held_out": True, "true_label": "yak"}]
)
def test_what_was_learnt_from_or_is_not_known_is_not_checked(values: dict[str, object]) -> None:
    many = [dataclasses.replace(each, **values) for each in examples(pictures(2))]  # type: ignore[arg-type]
    design = DatasetDesign(fills=("mean",), images=1, clusters=False, suspects=0)
    result = audit_dataset(Known(by_object), Flat(), many, design).label_errors
    assert (result.checked, result.suspected) == (0, ())
    assert result.reason.startswith("No label was checked: no image is both held out")
    assert LABELS[0] == "sheep"
