"""What the first bytes of a file say that Pillow tells too late or not at all: how much memory it will take."""

from __future__ import annotations


def webp_size(data: bytes | bytearray) -> tuple[int, int]:
    """(width, height) from the header of the first chunk (RFC 9649). Raises ValueError."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise ValueError("a WebP file that ends in its header")
    if kind == b"VP8X":  # 24 bits each, less one
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":  # a signature byte, then 14 bits each, less one
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":  # frame tag, start code, then 14 bits each and 2 of scaling
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ValueError("a WebP file without a picture")


def jpeg_coefficients(data: bytes | bytearray) -> int:
    """Bytes of the coefficients that libjpeg keeps of a JPEG whose components do not come in one scan (ITU-T T.81).

    Raises:
        ValueError: The file's segments cannot be followed to its first scan.
    """
    place, frame = 2, None
    while frame is None or data[place + 1 : place + 2] != b"\xda":
        if data[place : place + 1] != b"\xff":
            raise ValueError("a JPEG whose segments do not follow each other")
        marker = data[place + 1] if place + 1 < len(data) else 0xD9
        if marker in (0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # filling, or a marker without a body
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0xD9, 0xDA) or length < 2:
            raise ValueError("a JPEG without a picture")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = marker, bytes(data[place + 4 : place + 2 + length])
        place += 2 + length
    marker, body = frame
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    sampling = [(each >> 4 or 1, each & 15 or 1) for each in body[7 : 6 + 3 * body[5] : 3]]
    together = data[place + 4 : place + 5] == body[5:6]
    if together and marker in (0xC0, 0xC1, 0xC9):
        return 0
    across, down = max(x for x, _ in sampling), max(y for _, y in sampling)
    blocks = sum(-(-width * x // (8 * across)) * -(-height * y // (8 * down)) for x, y in sampling)
    return blocks * 64 * 2
