"""Addresses of endpoints: what may be asked, and what the path says of kind and model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from ouzel.errors import InvalidArgument

_OIP = re.compile(r"(?P<base>.*)/v2/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?(/infer)?/?")
_TORCHSERVE = re.compile(r"(?P<base>.*)/predictions/(?P<model>[^/]+)(/(?P<version>[^/]+))?/?")


@dataclass(frozen=True)
class Address:
    """What a URL says by itself.

    Attributes:
        base: The address of the server; of unknown kinds the whole URL.
        kind: "oip" or "torchserve"; empty if the URL does not tell.
        model: Name at the service; may be empty.
        version: At the service; may be empty.
    """

    base: str = field(repr=False)
    kind: str = ""
    model: str = ""
    version: str = ""


def read_url(url: str) -> Address:
    """Split an address that `check_url` lets pass."""
    parts = urlsplit(url)
    if parts.scheme in ("grpc", "grpcs"):
        return Address(url.rstrip("/"), "oip")
    for kind, pattern in (("oip", _OIP), ("torchserve", _TORCHSERVE)):
        if match := pattern.fullmatch(parts.path):
            base = urlunsplit((parts.scheme, parts.netloc, match["base"], parts.query, ""))
            return Address(base, kind, match["model"], match["version"] or "")
    return Address(url)


def with_path(base: str, path: str) -> str:
    """The address below `base`, whose query stays."""
    parts = urlsplit(base)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, parts.query, ""))


def check_url(url: str, *, grpc: bool) -> None:
    """Refuses an address that cannot be asked. Its messages do not show it, because it may hold a secret."""
    schemes = ("http", "https", "grpc", "grpcs") if grpc else ("http", "https")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise InvalidArgument("url: is not a URL", field="url") from None
    if parts.scheme not in schemes or not host or port == 0 or not (url.isascii() and url.isprintable()) or " " in url:
        raise InvalidArgument(f"url: is not a URL of {', '.join(schemes)} with a host, in ASCII", field="url")
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument("url: holds a user or a password; send it as a header from `env` or `file`", field="url")
    if parts.fragment:
        raise InvalidArgument("url: holds a fragment (#), which no server sees", field="url")
    if parts.scheme.startswith("grpc") and (port is None or parts.path.strip("/") or parts.query):
        raise InvalidArgument("url: of gRPC is grpc://HOST:PORT or grpcs://HOST:PORT", field="url")
