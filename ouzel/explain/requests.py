"""A request as it came, and what goes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ouzel.errors import OuzelError
from ouzel.explain import media
from ouzel.explain.accept import PROTOBUF
from ouzel.explain.limits import Limits
from ouzel_protos.v1 import explain_pb2 as pb

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class RawRequest:
    """One request as it came.

    Attributes:
        image: Bytes of a PNG, JPEG or WebP file.
        tensor: A serialised Tensor, in place of an image.
        options: A serialised ExplainOptions, JSON, or JSON decoded.
        media_type: Format of the answer, one of `accept.SERVED`.
        refusal: An error that was seen before, which becomes the answer.
        trace: The caller's `traceparent` and `tracestate`, of W3C; empty if there are none.
        gone: Whether the caller has left; None if that cannot be known.
    """

    image: bytes | None = None
    tensor: bytes | None = None
    options: bytes | str | Mapping[str, Any] | None = None
    media_type: str = PROTOBUF
    refusal: OuzelError | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    gone: Callable[[], bool] | None = None


@dataclass
class Reply:
    """What one row gets.

    Attributes:
        envelope: The answer, with a result or an error.
        http: Status for REST.
        picture: The upload, to draw on.
        limit: Bytes that a drawn answer may have.
    """

    envelope: pb.Explanation
    http: int = 200
    picture: Image.Image | None = None
    limit: int = Limits.response_bytes

    def render(self, media_type: str) -> tuple[bytes, str]:
        """(body, its media type)."""
        return media.render(self.envelope, self.picture, media_type, self.limit)
