"""An archive's weights as a backbone and a head, of which the head alone is kept in memory.

The file of the weights is read once, in pieces, and hashed twice: all of it, which must give the digest that the card
states, and all tensors but the head's, by their names, types, shapes and bits. So two archives have the same backbone
only if its bits are the same, whatever they state.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ouzel.errors import FailedPrecondition, NotFound, OuzelError
from ouzel.models import archive
from ouzel.models.card import Card
from ouzel.models.heads import linear_head
from ouzel.models.weights import checked
from ouzel.task_names import CLASSIFICATION

_PIECE = 4 * 2**20  # bytes
_LARGEST_HEADER = 100_000_000  # bytes, as the library safetensors has it
_UNSOUND = (OSError, zipfile.BadZipFile, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_LOCAL = struct.Struct("<26x2H")  # of a zip file: lengths of a member's name and extra field


@dataclass(frozen=True)
class Content:
    """What the bytes of an archive's weights were seen to be.

    Attributes:
        digest: "sha256:<hex>" of all.
        backbone: The same of all tensors but the head's, with their names, types and shapes.
        start: Where the tensors begin in the archive.
        weight: (first byte, bytes) of the head's weight there.
        bias: The same of its bias.
    """

    digest: str
    backbone: str
    start: int
    weight: tuple[int, int]
    bias: tuple[int, int]


@dataclass(frozen=True)
class Split:
    """An archive without its backbone.

    Attributes:
        card: Its card.
        values: The card's mapping.
        content: For the next time that the same file is split.
        layer: Name of the head.
        weight: (K, F) float32.
        bias: (K,) float32.
    """

    card: Card
    values: Mapping[str, Any]
    content: Content
    layer: str
    weight: Tensor
    bias: Tensor


def split(path: Path, known: Content | None = None) -> Split | None:
    """Read the head of an archive, and the digest of its backbone.

    Args:
        path: Of the .mar file.
        known: What an earlier call has seen in this file, which is the same still: then only the head is read.

    Returns:
        The head; None of a network whose head is not one linear layer, or whose file is not laid out as this library
        does it.

    Raises:
        NotFound: There is no such file.
        FailedPrecondition: The archive is damaged, or its weights are not those that its card describes.
    """
    card, values = archive.read_card(path)
    if card.task != CLASSIFICATION:
        return None
    layer, features = linear_head(card.arch, card.preprocessing.channels)
    if not layer:
        return None
    try:
        with path.open("rb", buffering=0) as file:
            content = known or _content(path, file.fileno(), layer)
            if content is None:
                return None
            if content.digest != card.digest:
                raise FailedPrecondition(
                    f"{path}: {archive.WEIGHTS} is not what the card describes (its digest differs): a damaged file"
                )
            classes = len(card.labels)
            if (content.weight[1], content.bias[1]) != (4 * classes * features, 4 * classes):
                raise FailedPrecondition(f"{path}: the weights are not of {classes} classes, as the card says")
            weight = _tensor(file.fileno(), content.start, content.weight, f"{layer}.weight", (classes, features))
            bias = _tensor(file.fileno(), content.start, content.bias, f"{layer}.bias", (classes,))
    except FileNotFoundError:
        raise NotFound(f"there is no model archive {path}") from None
    except FailedPrecondition:
        raise
    except OuzelError as error:
        raise FailedPrecondition(f"{path}: {error}") from error
    except _UNSOUND as error:
        raise FailedPrecondition(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    return Split(card, values, content, layer, weight, bias)


def _content(path: Path, file: int, layer: str) -> Content | None:
    offset, size = archive.weights_in(path)
    name, extra = _LOCAL.unpack(_read(file, offset, _LOCAL.size))
    begin = offset + _LOCAL.size + name + extra
    (length,) = struct.unpack("<Q", _read(file, begin, 8))
    if length > min(_LARGEST_HEADER, size - 8):
        raise ValueError(f"{archive.WEIGHTS} has no sound header")
    described = json.loads(_read(file, begin + 8, length))
    described.pop("__metadata__", None)
    places = _places(described, size - 8 - length)
    head = [f"{layer}.weight", f"{layer}.bias"]
    if places is None or any(described.get(each, {}).get("dtype") != "F32" for each in head):
        return None
    whole, backbone = hashlib.sha256(), hashlib.sha256()
    rest = [(each, described[each]["dtype"], described[each]["shape"]) for each in places if each not in head]
    backbone.update(json.dumps(rest).encode())
    gaps = sorted(places[each] for each in head)
    at = -8 - length  # from where the tensors begin
    with ThreadPoolExecutor(1) as beside:
        for piece in _pieces(file, begin, size):
            hashing = beside.submit(whole.update, piece)
            for part in _without(piece, at, gaps):
                backbone.update(part)
            hashing.result()
            at += len(piece)
    weight, bias = (places[each] for each in head)
    return Content(
        f"sha256:{whole.hexdigest()}",
        f"sha256:{backbone.hexdigest()}",
        begin + 8 + length,
        (weight[0], weight[1] - weight[0]),
        (bias[0], bias[1] - bias[0]),
    )


def _places(described: Mapping[str, Any], size: int) -> dict[str, tuple[int, int]] | None:
    """(begin, end) of each tensor, in the order of the file; None unless they fill it without a gap."""
    places = {name: (int(each["data_offsets"][0]), int(each["data_offsets"][1])) for name, each in described.items()}
    ordered = dict(sorted(places.items(), key=lambda each: (each[1], each[0])))
    end = 0
    for begin, after in ordered.values():
        if begin != end or after < begin:
            return None
        end = after
    return ordered if end == size else None


def _pieces(file: int, begin: int, size: int) -> Iterator[bytes]:
    for offset in range(0, size, _PIECE):
        yield _read(file, begin + offset, min(_PIECE, size - offset))


def _without(piece: bytes, at: int, gaps: list[tuple[int, int]]) -> Iterator[memoryview]:
    """The parts of a piece, which begins at `at`, that are of tensors and in none of the gaps."""
    view, place = memoryview(piece), max(at, 0)
    for begin, end in [*gaps, (at + len(piece), at + len(piece))]:
        upto = min(max(begin, place), at + len(piece))
        if upto > place:
            yield view[place - at : upto - at]
        place = max(place, min(end, at + len(piece)))


def _read(file: int, offset: int, size: int) -> bytes:
    parts: list[bytes] = []
    left = size
    while left:
        part = os.pread(file, left, offset + size - left)
        if not part:
            raise ValueError("the file ends before its last member does")
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _tensor(file: int, start: int, place: tuple[int, int], name: str, shape: tuple[int, ...]) -> Tensor:
    data = _read(file, start + place[0], place[1])
    if len(data) != 4 * math.prod(shape):
        raise ValueError(f"{name} has not {shape} numbers")
    tensor = torch.frombuffer(bytearray(data), dtype=torch.float32).reshape(shape)
    return checked(name, tensor, torch.empty(shape, device="meta"))
