"""Which format an answer has: the header Accept, by RFC 9110."""

from __future__ import annotations

import pytest

from ouzel.errors import InvalidArgument, NotAcceptable
from ouzel.explain import JSON, PNG, PROTOBUF, negotiate


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, JSON),
        ("", JSON),
        (" , ", JSON),
        ("*/*", JSON),  # curl
        ("application/json", JSON),
        ("image/png", PNG),
        ("IMAGE/PNG; q=0.5", PNG),
        ("application/x-protobuf", PROTOBUF),
        ("image/*", PNG),
        ("application/*", JSON),
        ("image/webp, image/*;q=0.5", PNG),
        ("application/json;q=0.1, image/png", PNG),
        ("application/json, image/png", JSON),
        ("image/png, application/json", PNG),
        ("image/png;q=0.3, application/json;q=0.4, application/x-protobuf;q=0.35", JSON),
        ("*/*, image/png", PNG),  # named, at the same weight
        ("*/*;q=0.1, application/x-protobuf;q=0.2", PROTOBUF),
        ("image/png;q=0, */*", JSON),
        ("application/json;q=0, */*", PNG),
        ("application/json;q=0, application/*", PROTOBUF),
        ("image/*, image/png;q=0, application/x-protobuf;q=0.1", PROTOBUF),
        ("application/json;charset=utf-8", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", JSON),  # a page
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", PNG),  # an <img> of a browser
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON),  # Java's own client
    ],
)
def test_the_caller_gets_what_it_likes_best(accept: str | None, media_type: str) -> None:
    assert negotiate(accept) == media_type


@pytest.mark.parametrize(
    "accept", ["text/html", "image/webp", "image/png;q=0", "*/*;q=0", "audio/*", "application/xml"]
)
def test_what_is_not_served_is_refused_in_words(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="application/json, image/png, application/x-protobuf") as caught:
        negotiate(accept)
    assert (caught.value.http, caught.value.field) == (406, "Accept")
    assert accept in str(caught.value)


@pytest.mark.parametrize("weight", ["", "x", "2", "-0.1", "nan", "inf"])
def test_a_weight_is_a_number_from_0_to_1(weight: str) -> None:
    with pytest.raises(InvalidArgument, match="from 0 to 1"):
        negotiate(f"image/png;q={weight}")
