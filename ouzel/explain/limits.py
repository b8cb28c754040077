"""What one request may ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ouzel.errors import InvalidArgument


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and what its work may take.

    Attributes:
        response_bytes: Size of one answer; a larger one would cost TorchServe its worker.
        passes: Through the network per request, forward and backward counted one each.
        maps: Saliency maps of one request.
        images: Given as parameters.
        request_id: Characters.
        memory_bytes: What a method of many passes may take at a time; None is a share of the machine's.
    """

    response_bytes: int = 6_553_500
    passes: int = 2048
    maps: int = 32
    images: int = 4
    request_id: int = 128
    memory_bytes: int | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """Read the limits from environment variables; one that is not set has its default.

        Args:
            environment: OUZEL_MAX_RESPONSE_BYTES, as the serving side sets it beside TorchServe's own limit,
                OUZEL_MAX_PASSES, and OUZEL_MEMORY_MB, 0 for the machine's share.

        Raises:
            InvalidArgument: A value is not a number, or too small.
        """
        return cls(
            response_bytes=_number(environment, "OUZEL_MAX_RESPONSE_BYTES", cls.response_bytes, 1024),
            passes=_number(environment, "OUZEL_MAX_PASSES", cls.passes, 1),
            memory_bytes=_number(environment, "OUZEL_MEMORY_MB", 0, 0) * 2**20 or None,
        )


def _number(environment: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or int(text) < least:
        raise InvalidArgument(f"{name}: {text!r} is not an integer from {least} up")
    return int(text)
