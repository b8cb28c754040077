"""How many processes per GPU a model gets."""

from __future__ import annotations

import pytest

from ouzel.errors import OuzelError
from ouzel.serving.worker_count import Measured, choose, most


@pytest.mark.parametrize(
    ("used", "free", "cores", "devices", "expected"),
    [
        (None, 50_000, 16, 1, 1),  # nobody knows
        (2_000, None, 16, 1, 1),
        (2_000, 78_000, 16, 1, 4),
        (2_000, 78_000, 16, 8, 2),  # two cores for each GPU
        (2_000, 78_000, 4, 8, 1),
        (10_000, 13_000, 16, 1, 2),  # 80 % of 13,000 hold one more
        (10_000, 12_000, 16, 1, 1),
        (0, 1_300, 16, 1, 3),  # as if it took 512
    ],
)
def test_memory_and_cores_bound_it(used: int | None, free: int | None, cores: int, devices: int, expected: int) -> None:
    assert most(used, free, cores, devices) == expected


@pytest.mark.parametrize(
    ("rates", "most", "expected"),
    [
        ([100.0, 180.0, 190.0], 4, Measured(2, (100.0, 180.0, 190.0))),
        ([100.0, 105.0], 4, Measured(1, (100.0, 105.0))),
        ([100.0, 120.0, 150.0, 200.0], 4, Measured(4, (100.0, 120.0, 150.0, 200.0))),
        ([100.0], 1, Measured(1, (100.0,))),
    ],
)
def test_one_more_is_taken_as_long_as_it_gains_a_tenth(rates: list[float], most: int, expected: Measured) -> None:
    assert choose(lambda count: rates[count - 1], most) == expected


def test_what_cannot_be_had_ends_the_search() -> None:
    def rate(count: int) -> float:
        if count == 3:
            raise OuzelError("no memory")
        return 100.0 * count

    assert choose(rate, 4) == Measured(2, (100.0, 200.0))


def test_a_model_that_answers_nothing_gets_one() -> None:
    """As one that takes tensors and no images does."""
    assert choose(lambda _count: 0.0, 4) == Measured(1, (0.0, 0.0))
