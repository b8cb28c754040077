"""What one request may ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ouzel.errors import InvalidArgument


@dataclass(frozen=True)
class Limits:
    """response_bytes: size of one answer; a larger one would cost TorchServe its worker. passes: through the network
    per request, forward and backward counted one each. maps: saliency maps of one request. request_id: characters."""

    response_bytes: int = 6_553_500
    passes: int = 2048
    maps: int = 32
    request_id: int = 128

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """OUZEL_MAX_RESPONSE_BYTES, as the serving side sets it beside TorchServe's own limit, and OUZEL_MAX_PASSES."""
        return cls(
            response_bytes=_number(environment, "OUZEL_MAX_RESPONSE_BYTES", cls.response_bytes, 1024),
            passes=_number(environment, "OUZEL_MAX_PASSES", cls.passes, 1),
        )


def _number(environment: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or int(text) < least:
        raise InvalidArgument(f"{name}: {text!r} is not a whole number from {least} up")
    return int(text)
