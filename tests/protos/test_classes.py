"""How a text names a class, against all ways that it may be read, tried one by one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouzel_protos import classes


def plain(labels: tuple[str, ...], text: str, count: int) -> set[tuple[int, ...]]:
    """Every class that the text may mean, by looking at all labels and all indices."""

    def compose(text: str) -> str:
        return unicodedata.normalize("NFC", text)

    def labelled(name: str) -> tuple[int, ...]:
        exact = [i for i in range(len(labels)) if compose(labels[i]) == compose(name)]
        folded = [i for i in range(len(labels)) if compose(labels[i]).casefold() == compose(name).casefold()]
        return tuple(exact or (folded if len({compose(labels[i]) for i in folded}) == 1 else []))

    numbers = {str(i): i for i in range(count)} | {f"index:{i}": i for i in range(count)}
    meant = {labelled(text)} | ({(numbers[text],)} if text in numbers else set())
    if text.startswith("label:"):
        meant.add(labelled(text[6:]))
    return meant - {()}


NAMES = st.sampled_from(
    ["0", "1", "2", "3", "10", "a", "A", "b", "index:1", "label:1", "label:a", "Café", "Cafe\u0301"]
)


@given(
    labels=st.lists(NAMES, max_size=5).map(tuple),
    text=NAMES | NAMES.map("label:{}".format) | st.integers(0, 6).map("index:{}".format),
    more=st.integers(0, 2),
)
def test_all_readings_are_found(labels: tuple[str, ...], text: str, more: int) -> None:
    count = len(labels) if labels else more
    assert set(classes.readings(labels, text, count).values()) == plain(labels, text, count)


@pytest.mark.parametrize(
    ("labels", "text", "readings"),
    [
        (("1", "10", "2"), "1", {"label:1": (0,), "index:1": (1,)}),
        (("1", "10", "2"), "10", {"label:10": (1,)}),
        (("1", "10", "2"), "0", {"index:0": (0,)}),
        (("1", "10", "2"), "index:1", {"index:1": (1,)}),
        (("1", "10", "2"), "label:1", {"label:1": (0,)}),
        (("0", "1", "2"), "1", {"label:1": (1,)}),
        (("index:1", "cat"), "index:1", {"label:index:1": (0,), "index:1": (1,)}),
        (("index:1", "cat"), "label:index:1", {"label:index:1": (0,)}),
        (("crane", "cat", "crane"), "crane", {"label:crane": (0, 2)}),
        (("cat", "dog"), "١", {}),  # a digit of Arabic is a text
        (("cat", "dog"), "-1", {}),
        (("cat", "dog"), "9" * 5000, {}),
        (("cat", "dog"), "\ud800", {}),
        (("cat", " dog"), "dog", {}),
    ],
)
def test_readings(labels: tuple[str, ...], text: str, readings: dict[str, tuple[int, ...]]) -> None:
    assert classes.readings(labels, text, len(labels)) == readings
