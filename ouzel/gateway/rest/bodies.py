"""Bodies of HTTP requests, within bounds of size and time, and compressed answers."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request

from ouzel.errors import InvalidArgument, Oversized, UnsupportedMedia

_LARGE = 2**18  # bytes that are (de)compressed in a thread
_RATIO = 1032  # that deflate packs to at best
_PIECE = 2**20  # bytes
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_LONGEST_LENGTH = 15  # digits
Aside = Callable[..., Coroutine[Any, Any, Any]]  # (function, *args), of which it gives the result


class SlowBody(InvalidArgument):
    """A body did not come in time."""

    http = 408


async def read(request: Request, most: int, seconds: float, aside: Aside) -> bytes:
    """The body of a request, decompressed.

    Args:
        request: Of which nothing has been read.
        most: Bytes, both as they come and decompressed.
        seconds: In which all must have come.
        aside: Does what takes long in a thread.

    Raises:
        Oversized: It has more bytes; what the header Content-Length says is refused before anything is read.
        SlowBody: It did not come in time.
        UnsupportedMedia: It is compressed in another way than gzip and deflate.
        InvalidArgument: It is not what its headers say.
    """
    length = request.headers.get("content-length", "")
    if length and not (length.isascii() and length.isdecimal() and len(length) <= _LONGEST_LENGTH):
        raise InvalidArgument("content-length: is not a number", field="content-length")
    if length and int(length) > most:
        raise Oversized(f"body: {length} bytes are more than {most}, all that may be sent here", field="body")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise UnsupportedMedia(f"content-encoding: {encoding!r:.40} is not gzip or deflate", field="content-encoding")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise Oversized(
                        f"body: has more than {most} bytes, the most that the caller may send", field="body"
                    )
                chunks.append(chunk)
    except TimeoutError:
        raise SlowBody(f"body: did not come within {seconds:g} s", field="body") from None
    body = b"".join(chunks)
    if encoding == "identity":
        return body
    if size * _RATIO > _LARGE:
        return await aside(_decompressed, body, encoding, most)
    return _decompressed(body, encoding, most)


async def compressed(body: bytes, accept: str | None, aside: Aside) -> tuple[bytes, str]:
    """(body, its Content-Encoding), by the header Accept-Encoding; "" where it stays as it is.

    Only who names an encoding and nothing else asks for it: others take what is sent, and compressing floats costs more
    than it saves.
    """
    wanted = (accept or "").strip().lower()
    if wanted not in ("gzip", "deflate"):
        return body, ""
    pack = gzip.compress if wanted == "gzip" else zlib.compress
    return (await aside(pack, body, 1) if len(body) > _LARGE else pack(body, 1)), wanted


def _decompressed(body: bytes, encoding: str, most: int) -> bytes:
    if len(body) * _RATIO > most:
        _check_unpacked(body, encoding, most)
    reader = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = reader.decompress(body, most + 1)
    except zlib.error as error:
        raise InvalidArgument(f"body: is not {encoding} ({error})", field="body") from None
    if len(plain) > most:
        raise Oversized(f"body: decompressed it has more than {most} bytes", field="body")
    if not reader.eof:
        raise InvalidArgument(f"body: ends in the middle of its {encoding}", field="body")
    if reader.unused_data:
        raise InvalidArgument(f"body: goes on after the end of its {encoding}", field="body")
    return plain


def _check_unpacked(body: bytes, encoding: str, most: int) -> None:
    """Raises Oversized if it unpacks to more, without ever holding that."""
    reader, size, rest = zlib.decompressobj(_GZIP_OR_ZLIB), 0, body
    try:
        while rest and not reader.eof:
            size += len(reader.decompress(rest, _PIECE))
            if size > most:
                raise Oversized(f"body: decompressed it has more than {most} bytes", field="body")
            rest = reader.unconsumed_tail
    except zlib.error as error:
        raise InvalidArgument(f"body: is not {encoding} ({error})", field="body") from None
