"""Forms with files, multipart/form-data (RFC 7578), from bodies that are in memory."""

from __future__ import annotations

import re

from ouzel.errors import InvalidArgument

_BOUNDARY = re.compile(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s;,"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="([^"\r\n]{0,100})"', re.IGNORECASE)
_ENCODING = re.compile(rb"^content-transfer-encoding:\s*(?!binary|8bit|7bit)", re.IGNORECASE | re.MULTILINE)
_MOST = 8


def parts(content_type: str, body: bytes) -> dict[str, bytes]:
    """The parts of a form, by name.

    Args:
        content_type: The header, with the boundary.
        body: Of the request.

    Raises:
        InvalidArgument: It is not such a form, has more than 8 parts, or two of one name.
    """
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise InvalidArgument("content-type: multipart without a boundary", field="content-type")
    delimiter = b"--" + (match[1] or match[2]).encode("latin-1", "replace")
    found: dict[str, bytes] = {}
    if not body.startswith(delimiter):
        start = body.find(b"\r\n" + delimiter)
        if start < 0:
            raise InvalidArgument("body: does not hold the boundary of its content type", field="body")
        body = body[start + 2 :]
    place = len(delimiter)
    while not body.startswith(b"--", place):
        place = body.find(b"\r\n", place) + 2
        end = body.find(b"\r\n" + delimiter, place - 2)
        if place < 2 or end < 0:
            raise InvalidArgument("body: ends before the last boundary of the form", field="body")
        name, content = _part(body[place:end] if end >= place else b"")
        if name in found:
            raise InvalidArgument(f"body: the form has two parts {name!r}", field="body")
        found[name] = content
        if len(found) > _MOST:
            raise InvalidArgument(f"body: the form has more than {_MOST} parts", field="body")
        place = end + 2 + len(delimiter)
    return found


def _part(part: bytes) -> tuple[str, bytes]:
    head, separator, content = part.partition(b"\r\n\r\n")
    match = _NAME.search(head)
    if not separator or match is None:
        raise InvalidArgument("body: a part of the form has no name", field="body")
    if _ENCODING.search(head):
        raise InvalidArgument("body: a part of the form is encoded; send its bytes as they are", field="body")
    return match[1].decode("utf-8", "replace"), content
