"""From what a service answers to probabilities in the order of the labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ouzel.endpoints.description.protocols import HttpJson
from ouzel.errors import FailedPrecondition
from ouzel_protos.text import nfc, shown

_SLACK = 1e-2  # by which the probabilities of all classes may miss 1, after a few decimals each


def is_number(value: object) -> bool:
    """Whether a value of JSON is a number: true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def from_array(values: Any, classes: int, who: str) -> np.ndarray:
    """One score for each class.

    Args:
        values: As JSON has it.
        classes: K.
        who: The endpoint, for messages.

    Returns:
        (K,) float64.

    Raises:
        FailedPrecondition: It is something else.
    """
    if not isinstance(values, list) or not all(map(is_number, values)):
        raise FailedPrecondition(f"{who}: the scores are not a list of numbers")
    if len(values) != classes:
        raise FailedPrecondition(f"{who}: answered {len(values)} scores, there are {classes} labels")
    return as_floats(values, who)


def from_pairs(pairs: Iterable[tuple[Any, Any]], labels: Mapping[str, int], who: str, *, partial: bool) -> np.ndarray:
    """Scores that come with their labels.

    Args:
        pairs: Labels and scores, as JSON has them.
        labels: The index of each label.
        who: The endpoint, for messages.
        partial: Whether classes may be left out.

    Returns:
        (K,) float64, with 0 for classes that are left out.

    Raises:
        FailedPrecondition: A label is unknown, comes twice or is missing, or a score is not a number.
    """
    row: dict[int, Any] = {}
    for label, score in pairs:
        index = labels.get(nfc(label)) if isinstance(label, str) else None
        if index is None:
            told = shown(label, 80) if isinstance(label, str) else "something that is not a text"
            raise FailedPrecondition(f"{who}: answered with the label {told}, which is not among its labels")
        if index in row:
            raise FailedPrecondition(f"{who}: answered with the label {shown(label, 80)} twice")
        if not is_number(score):
            raise FailedPrecondition(f"{who}: the score of {shown(label, 80)} is not a number")
        row[index] = score
    if not row or (len(row) < len(labels) and not partial):
        raise FailedPrecondition(f"{who}: answered {len(row)} of {len(labels)} labels")
    values = np.zeros(len(labels))
    values[list(row)] = as_floats(list(row.values()), who)
    return values


def as_floats(values: Sequence[Any], who: str) -> np.ndarray:
    """Numbers of JSON, which may be larger than any float, as float64. Raises FailedPrecondition."""
    try:
        return np.array(values, np.float64)
    except (OverflowError, ValueError, TypeError):
        raise FailedPrecondition(f"{who}: answered scores that are not numbers of 64 bits") from None


def probabilities(values: np.ndarray, scores: str, who: str, *, partial: bool = False) -> np.ndarray:
    """Logits as probabilities, and probabilities as they are.

    Args:
        values: (N, K).
        scores: "logits" or "probabilities".
        who: The endpoint, for messages.
        partial: Whether the probabilities may be those of some classes.

    Returns:
        (N, K) float64.

    Raises:
        FailedPrecondition: Values that are not finite, or probabilities of all classes that do not add up to 1.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise FailedPrecondition(f"{who}: answered scores that are not finite")
    if scores == "logits":
        exponentials = np.exp(values - values.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)
    sums = values.sum(axis=1)
    if not partial and values.min() >= 0 and np.abs(sums - 1).max() > _SLACK:
        worst = sums[np.abs(sums - 1).argmax()]
        raise FailedPrecondition(
            f"{who}: answered probabilities with a sum of {worst:g}, not 1; state whether they are logits"
        )
    return values


def from_document(document: Any, how: HttpJson, labels: Sequence[str], who: str) -> np.ndarray:
    """The scores in the JSON of an answer.

    Args:
        document: The answer.
        how: Where they are, and in which form.
        labels: Of the K classes.
        who: The endpoint, for messages.

    Returns:
        (K,) float64, probabilities.

    Raises:
        FailedPrecondition: They are not there, or not in this form.
    """
    try:
        values = how.path.get(document)
    except LookupError:
        raise FailedPrecondition(f"{who}: the answer has nothing at {how.path} (output.path)") from None
    indices = {label: index for index, label in enumerate(labels)}
    if how.form == "array":
        row = from_array(values, len(labels), who)
    elif how.form == "mapping":
        if not isinstance(values, dict):
            raise FailedPrecondition(f"{who}: the answer has no JSON object of labels at {how.path} (output.path)")
        row = from_pairs(values.items(), indices, who, partial=how.partial)
    else:
        if not isinstance(values, list) or not all(isinstance(entry, dict) for entry in values):
            raise FailedPrecondition(f"{who}: the answer has no list of JSON objects at {how.path} (output.path)")
        pairs = [(entry.get(how.label_key), entry.get(how.score_key)) for entry in values]
        row = from_pairs(pairs, indices, who, partial=how.partial)
    return probabilities(row[None], how.scores, who, partial=how.partial)[0]
