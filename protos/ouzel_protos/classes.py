"""How a text names a class of a model: one rule for every place where somebody types one. Standard library only.

A text that equals a label is that class; without regard to case if that fits one label only. Decimal digits that equal
no label are an index. `index:3` and `label:3` say which is meant. `readings` gives all classes that a text can be read
as; callers refuse a text that has several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ouzel_protos.text import nfc

INDEX, LABEL = "index:", "label:"
_MOST_DIGITS = 18  # more than any network has classes


def readings(labels: Sequence[str], text: str, classes: int) -> Mapping[str, tuple[int, ...]]:
    """The classes that a text may mean.

    Args:
        labels: Of the classes in order, in any form of Unicode; may be empty.
        text: A label or an index.
        classes: How many classes there are.

    Returns:
        The classes, lowest first, by the unambiguous way to write them; empty if the text means nothing. Several
        classes under one way share the label. Ways that lead to the same classes appear once.
    """
    text = nfc(text)
    ways: dict[tuple[int, ...], str] = {}
    if own := _labelled(labels, text):
        ways[own] = f"{LABEL}{labels[own[0]]}"
    if text.startswith(LABEL) and (named := _labelled(labels, text.removeprefix(LABEL))):
        ways.setdefault(named, f"{LABEL}{labels[named[0]]}")
    number = _decimal(text.removeprefix(INDEX))
    if number is not None and number < classes:
        ways.setdefault((number,), f"{INDEX}{number}")
    return {way: meant for meant, way in ways.items()}


def _labelled(labels: Sequence[str], text: str) -> tuple[int, ...]:
    """Classes of this label: as it is written, else without regard to case if that fits one label only."""
    composed = [nfc(label) for label in labels]
    exact = tuple(index for index, label in enumerate(composed) if label == text)
    if exact:
        return exact
    folded = tuple(index for index, label in enumerate(composed) if label.casefold() == text.casefold())
    return folded if len({composed[index] for index in folded}) == 1 else ()


def alike(labels: Sequence[str], text: str) -> tuple[int, ...]:
    """Classes whose labels differ from the text, and from each other, in case only."""
    text = nfc(text).removeprefix(LABEL).casefold()
    return tuple(index for index, label in enumerate(labels) if nfc(label).casefold() == text)


def _decimal(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
