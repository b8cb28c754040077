"""Parameters of recipes off the wire."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ouzel.errors import InvalidArgument
from ouzel.worker.kinds.parameters import plain
from ouzel_protos.recipes import Range
from ouzel_protos.v1 import explain_pb2

INTEGER = {"x": Range(int)}


def read(value: Any, *, flags: bool = False, **kind: Any) -> Any:
    parameter = explain_pb2.Parameter(**(kind or {"number": value}))
    return plain({"x": parameter}, INTEGER | ({"y": Range(bool)} if flags else {}))["x"]


@pytest.mark.parametrize("value", [1e9, 512.0, 0.0, -3.0, 2.0**62])
def test_a_whole_double_is_an_integer_where_one_is_meant(value: float) -> None:
    number = read(value)
    assert (number, type(number)) == (value, int)
    other = plain({"y": explain_pb2.Parameter(number=value)}, INTEGER)["y"]
    assert (other, type(other)) == (value, float)


def test_others_stay_what_they_are() -> None:
    assert read(2.5) == 2.5
    assert read(0, integer=7) == 7
    assert read(0, flags=True, flag=True) is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": math.nan},
        {"number": math.inf},
        {"number": 1e300},
        {"number": -(2.0**63)},
        {"text": "7"},
        {"flag": True},
        {},
    ],
)
def test_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^parameters\.x: ") as caught:
        plain({"x": explain_pb2.Parameter(**wrong)}, INTEGER)
    assert caught.value.field == "parameters.x"
    assert len(str(caught.value)) < 200
