"""CloudEvents 1.0 over HTTP, in the binary and the structured (JSON) content mode, from senders that may be hostile.

The SDK of CloudEvents is not used here: it makes up an id where one is missing, and decodes the data of events that
nobody has sampled. Tests compare with it.

References:
    CloudEvents 1.0.2, "HTTP Protocol Binding" and "JSON Event Format": https://github.com/cloudevents/spec
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from ouzel.endpoints.clients.strict_json import NOT_READ, document
from ouzel.errors import InvalidArgument
from ouzel_protos.text import is_line, shown

LONGEST_ID = 256  # characters
_LONGEST = {"id": LONGEST_ID, "source": 2048, "type": 256}
_LONGEST_EXTENSION = 8192  # `metadata` of KServe holds headers
_MOST_ATTRIBUTES = 64
_NAME = re.compile(r"[a-z0-9]{1,64}")
_STRUCTURED = "application/cloudevents+json"


class Malformed(InvalidArgument):
    """What was sent is not an event.

    Attributes:
        reason: In a word, for counts.
        http: Status of the answer.
    """

    def __init__(self, message: str, reason: str, *, http: int = 400) -> None:
        super().__init__(message, field=reason)
        self.reason, self.http = reason, http


@dataclass(frozen=True)
class Event:
    """A CloudEvent.

    Attributes:
        id: 1 to 256 characters, in one line. Both halves of a pair have the same.
        source: As the sender states it. It is never opened.
        type: Of the event.
        content_type: Of `data`; may be empty.
        data: The body.
        extensions: All other attributes, as texts.
    """

    id: str
    source: str
    type: str
    content_type: str = ""
    data: bytes = field(default=b"", repr=False)
    extensions: Mapping[str, str] = field(default_factory=dict)

    def attribute(self, name: str) -> str | None:
        """An attribute or extension by name; None if the event has none."""
        return getattr(self, name) if name in _LONGEST else self.extensions.get(name)


def parse(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Event:
    """Read the event of a request.

    Args:
        headers: Names in lower case, and values.
        body: As it came: not compressed.

    Raises:
        Malformed: It is not one event of version 1.0, or an attribute is beyond its limit.
    """
    headers = list(headers)
    kinds = [value for name, value in headers if name == b"content-type"]
    if len(kinds) > 1:
        raise Malformed("content-type: comes twice", "content-type")
    content_type = kinds[0].decode("latin-1").strip() if kinds else ""
    media = content_type.partition(";")[0].strip().lower()
    if media == _STRUCTURED:
        return _structured(body)
    if media.startswith("application/cloudevents"):
        raise Malformed(
            f"content-type: {shown(media, 80)} is not read; send one event, in binary mode or as {_STRUCTURED}",
            "content-type",
            http=415,
        )
    attributes: dict[str, str] = {}
    for raw, value in headers:
        if raw.startswith(b"ce-"):
            name = raw[3:].decode("latin-1")
            if name in attributes:
                raise Malformed(f"ce-{name[:64]}: comes twice", "attribute")
            attributes[name] = _text(name, value)
    if not attributes:
        raise Malformed(f"this is not a CloudEvent: no header ce-id, and not {_STRUCTURED}", "not-an-event")
    attributes.pop("datacontenttype", None)  # of HTTP's own header in this mode
    return _event(attributes, content_type, body)


def _text(name: str, value: bytes) -> str:
    """A header's value: percent-encoded UTF-8, or plain where that makes no line of text.

    KServe's logger, in Go, encodes nothing: a header of a caller that is in `metadata` may hold any %.
    """
    try:
        plain = value.decode()
    except ValueError:
        raise Malformed(f"ce-{name[:64]}: is not UTF-8", "attribute") from None
    try:
        decoded = unquote_to_bytes(value).decode()
    except ValueError:
        return plain
    return decoded if is_line(decoded) else plain


def _structured(body: bytes) -> Event:
    try:
        values = document(body)
    except (ValueError, RecursionError):
        raise Malformed(f"the body {NOT_READ}", "json") from None
    if not isinstance(values, dict):
        raise Malformed("the body is not a JSON object", "json")
    if "data" in values and "data_base64" in values:
        raise Malformed("data: comes beside data_base64", "data")
    inline, encoded = values.pop("data", None), values.pop("data_base64", None)
    attributes = {name: _plain(name, value) for name, value in values.items() if value is not None}
    content_type = attributes.pop("datacontenttype", "application/json")
    return _event(attributes, content_type, _data(inline, encoded, content_type))


def _data(inline: Any, encoded: Any, content_type: str) -> bytes:
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise Malformed("data_base64: is not base64", "data") from None
    if inline is None:
        return b""
    if isinstance(inline, str) and "json" not in content_type.lower():
        try:
            return inline.encode()
        except UnicodeEncodeError:
            raise Malformed("data: holds a lone surrogate", "data") from None
    return json.dumps(inline, separators=(",", ":")).encode()


def _plain(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int):
        raise Malformed(f"{name[:64]}: is neither a string nor an integer nor a boolean", "attribute")
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        raise Malformed(f"{name[:64]}: is too long", "attribute") from None


def _event(attributes: dict[str, str], content_type: str, data: bytes) -> Event:
    if len(attributes) > _MOST_ATTRIBUTES:
        raise Malformed(f"{len(attributes)} attributes are more than {_MOST_ATTRIBUTES}", "attribute")
    for name, value in attributes.items():
        longest, reason = _LONGEST.get(name, _LONGEST_EXTENSION), "id" if name == "id" else "attribute"
        if not _NAME.fullmatch(name):
            raise Malformed(f"{shown(name, 64)} is not the name of an attribute: 1 to 64 of a-z and 0-9", "attribute")
        if len(value) > longest:
            raise Malformed(f"{name}: {len(value)} characters are more than {longest}", reason)
        if not is_line(value):
            raise Malformed(f"{name}: holds control characters or line breaks", reason)
    version = attributes.pop("specversion", "")
    if version != "1.0":
        raise Malformed(f"specversion: {shown(version, 20)} is not 1.0", "specversion")
    core = {}
    for name in _LONGEST:
        core[name] = attributes.pop(name, "")
        if not core[name].strip():
            raise Malformed(f"{name}: missing", name if name == "id" else "attribute")
    return Event(core["id"], core["source"], core["type"], content_type[:200], data, attributes)
