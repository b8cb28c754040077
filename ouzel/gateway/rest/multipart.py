"""Forms with files, multipart/form-data (RFC 7578), from bodies that are in memory."""

from __future__ import annotations

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from ouzel.errors import InvalidArgument
from ouzel_protos.text import shown

_MOST = 8
_PLAIN = ("", "binary", "8bit", "7bit")  # transfer encodings that change no byte


def parts(content_type: str, body: bytes) -> dict[str, bytes]:
    """The parts of a form, by name.

    Args:
        content_type: The header, with the boundary.
        body: Of the request.

    Raises:
        InvalidArgument: It is not such a form, has more than 8 parts, or two of one name.
    """
    boundary = parse_options_header(content_type)[1].get("boundary")
    if not boundary:
        raise InvalidArgument("content-type: multipart without a boundary", field="content-type")
    found: dict[str, bytearray] = {}
    name = ""
    try:
        with PushMultipartParser(boundary, max_segment_count=_MOST, strict=True) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    name = _name(event)
                    if name in found:
                        raise InvalidArgument(f"body: the form has two parts {shown(name, 40)}", field="body")
                    found[name] = bytearray()
                elif event:
                    found[name] += event
    except MultipartError as error:
        if "segment count" in str(error):
            raise InvalidArgument(f"body: the form has more than {_MOST} parts", field="body") from None
        raise InvalidArgument(f"body: is no form ({error!s:.100})", field="body") from None
    return {each: bytes(content) for each, content in found.items()}


def _name(part: MultipartSegment) -> str:
    if part.header("Content-Transfer-Encoding", "").strip().lower() not in _PLAIN:
        raise InvalidArgument("body: a part of the form is encoded; send its bytes as they are", field="body")
    if not part.name:
        raise InvalidArgument("body: a part of the form has no name", field="body")
    return part.name
