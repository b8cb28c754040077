"""The arithmetic that can be chosen by name. No torch: commands and services use the names too."""

from __future__ import annotations

from typing import Literal, get_args

from ouzel.checks import one_of

Precision = Literal["exact", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
EXACT: Precision = "exact"
VARIABLE = "OUZEL_PRECISION"  # what served models compute in, whatever their archives say


def check_precision(field: str, value: object) -> Precision:
    """The value, if it is one of PRECISIONS.

    Args:
        field: The argument, as the caller knows it.
        value: What was given.

    Raises:
        InvalidArgument: It is another value; the message lists the names.
    """
    one_of(field, value, PRECISIONS)
    return value  # type: ignore[return-value]  # one of them, as was just seen
