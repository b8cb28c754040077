"""Messages of the Open Inference Protocol written byte by byte from its field numbers, without anybody's stubs."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def chunk(number: int, data: bytes | str) -> bytes:
    """A field of bytes, text or a message."""
    raw = data.encode() if isinstance(data, str) else data
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def parameter(name: str, value: bool | int | float | str) -> bytes:
    """An entry of a map<string, InferParameter>."""
    if isinstance(value, bool):
        content = integer(1, value)
    elif isinstance(value, int):
        content = integer(2, value)
    elif isinstance(value, str):
        content = chunk(3, value)
    else:
        content = varint(4 << 3 | 1) + struct.pack("<d", value)
    return chunk(1, name) + chunk(2, content)


def tensor(name: str, datatype: str, shape: tuple[int, ...], *rest: bytes) -> bytes:
    """An InferInputTensor."""
    return chunk(1, name) + chunk(2, datatype) + chunk(3, b"".join(map(varint, shape))) + b"".join(rest)


def infer(
    model: str,
    inputs: list[bytes],
    raw: list[bytes] = (),  # type: ignore[assignment]
    *,
    version: str = "",
    identity: str = "",
    parameters: list[bytes] = (),  # type: ignore[assignment]
    outputs: list[bytes] = (),  # type: ignore[assignment]
) -> bytes:
    """A ModelInferRequest."""
    fields = [(1, model), (2, version), (3, identity)]
    message = b"".join(chunk(number, text) for number, text in fields if text)
    for number, chunks in ((4, parameters), (5, inputs), (6, outputs), (7, raw)):
        message += b"".join(chunk(number, each) for each in chunks)
    return message


def fields(message: bytes) -> list[tuple[int, int | bytes]]:
    """(number, value) of each field of a message, in order."""
    found: list[tuple[int, int | bytes]] = []
    place = 0

    def read() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = read()
        kind = key & 7
        if kind == 0:
            found.append((key >> 3, read()))
        elif kind == 2:
            size = read()
            found.append((key >> 3, message[place : place + size]))
            place += size
        else:
            size = {1: 8, 5: 4}[kind]
            found.append((key >> 3, message[place : place + size]))
            place += size
    return found


def of(message: bytes, number: int) -> list[bytes]:
    """The values of one field."""
    return [value for key, value in fields(message) if key == number and isinstance(value, bytes)]


def elements(*files: bytes) -> bytes:
    """Raw contents of BYTES."""
    return b"".join(struct.pack("<I", len(file)) + file for file in files)
