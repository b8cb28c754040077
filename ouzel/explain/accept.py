"""Which format an answer has, by the header Accept (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from ouzel.errors import InvalidArgument, NotAcceptable

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
PNG = "image/png"
SERVED = (JSON, PNG, PROTOBUF)  # the default first


def negotiate(accept: str | None) -> str:
    """The format that the caller likes best: by weight, then by how exactly it is named, then by place in the header.

    Args:
        accept: The header Accept; without one JSON is served, as callers of REST expect.

    Raises:
        NotAcceptable: Nothing that is served will do.
        InvalidArgument: A weight is not a number from 0 to 1.
    """
    ranges = [_media_range(entry) for entry in (accept or "").split(",") if entry.strip()]
    if not ranges:
        return JSON
    best: tuple[float, int, int] | None = None
    chosen = ""
    for media_type in SERVED:
        # The most exact range that fits decides: "image/*, image/png;q=0" takes no PNG.
        fits = [
            (exact, -place, weight) for place, (name, weight) in enumerate(ranges) if (exact := _fit(name, media_type))
        ]
        if not fits:
            continue
        exact, place, weight = max(fits)
        if weight > 0 and (best is None or (weight, exact, place) > best):
            best, chosen = (weight, exact, place), media_type
    if best is None:
        raise NotAcceptable(
            f"Accept: {accept!r:.200} names none of {', '.join(SERVED)}, the formats of answers", field="Accept"
        )
    return chosen


def _media_range(entry: str) -> tuple[str, float]:
    """(name, weight) of one entry, as "image/*;q=0.8"."""
    name, *parameters = (part.strip().lower() for part in entry.split(";"))
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            weight = _weight(value.strip())
    return "*/*" if name == "*" else name, weight  # "*" is what Java's own client sends


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:  # not so for NaN
        raise InvalidArgument(f"Accept: q={text:.40} is not a number from 0 to 1", field="Accept")
    return weight


def _fit(name: str, media_type: str) -> int:
    """How exactly a range names a media type: 3 by name, 2 by its kind, 1 by "*/*", 0 not at all."""
    if name == media_type:
        return 3
    if name == media_type.partition("/")[0] + "/*":
        return 2
    return int(name == "*/*")
