"""What one request may ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ouzel.errors import InvalidArgument


@dataclass(frozen=True)
class Limits:
    """response_bytes: size of one answer; a larger one would cost TorchServe its worker. maps: saliency maps of one
    request. request_id: characters."""

    response_bytes: int = 6_553_500
    maps: int = 32
    request_id: int = 128

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Limits:
        """OUZEL_MAX_RESPONSE_BYTES, as the serving side sets it beside TorchServe's own limit."""
        text = environment.get("OUZEL_MAX_RESPONSE_BYTES", str(cls.response_bytes))
        if not text.isdecimal() or int(text) < 1024:
            raise InvalidArgument(f"OUZEL_MAX_RESPONSE_BYTES: {text!r} is not a number of bytes from 1024 up")
        return cls(response_bytes=int(text))
