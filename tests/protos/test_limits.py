"""Numbers within their limits are let through; the words for others are true of the number as it is written there."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ouzel_protos.limits import out_of_range, too_small

NUMBERS = st.integers() | st.floats(allow_nan=False)


def read(text: str) -> float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_what_is_written_is_the_number(value: float, least: float, most: float) -> None:
    problem = out_of_range(value, least, most)
    if least <= value <= most:
        assert problem == ""
        return
    written = re.fullmatch(r"(.+) is not within (.+)\.\.(.+)", problem)
    assert written is not None
    assert [read(each) for each in written.groups()] == [value, least, most]


@pytest.mark.parametrize(
    "value", [10**400, -(10**5000)], ids=["400", "5000"]
)  # beyond all floats, and beyond what is written in full
def test_numbers_without_end_are_refused_in_words(value: int) -> None:
    assert out_of_range(value, 0, 1.5) == "a number of more than 80 digits is not within 0..1.5"
    assert too_small(-abs(value), 1) == "a number of more than 80 digits is less than 1"


@given(NUMBERS, NUMBERS)
def test_too_small(value: float, least: float) -> None:
    problem = too_small(value, least)
    assume(value < least or problem)
    said, _, limit = problem.partition(" is less than ")
    assert (read(said), read(limit)) == (value, least)
    assert value < least


@pytest.mark.parametrize("unit", ["", "s"])
def test_what_is_no_number_is_beyond_every_limit(unit: str) -> None:
    behind = f" {unit}" if unit else ""
    assert out_of_range(math.nan, -math.inf, math.inf, unit) == f"nan{behind} is not within -inf..inf{behind}"
    assert too_small(math.nan, -math.inf) == "nan is less than -inf"
