"""What the worker and the process that audits say to each other over pipes: a head in JSON, and a message of the wire.

| kind | from | about | body |
|---|---|---|---|
| `setup` | worker | | pickled `ResidentOptions`, once, at the start |
| `audit` | worker | a `Task` | `AuditPredictionRequest` |
| `reported` | worker | a `Task` | `ReportedStart` |
| `answer` | worker | | `ReportedAnswer` |
| `cancel` | worker | | |
| `ready` | process | | |
| `plan`, `question` | process | | `ReportedPlan`, `ReportedQuestion` |
| `done` | process | | `PredictionAudit` |
| `failed` | process | code, message, field | |
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

_SIZES = struct.Struct("!II")
_LARGEST_HEAD = 2**20
_LARGEST_BODY = 2**30


@dataclass(frozen=True)
class Frame:
    """One message over a pipe.

    Attributes:
        kind: What it is.
        number: Of the audit that it is about; 0 for none.
        about: Of JSON's types.
        body: A serialised message, or b"".
    """

    kind: str
    number: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """The bytes of the frame."""
        head = json.dumps([self.kind, self.number, self.about]).encode()
        return _SIZES.pack(len(head), len(self.body)) + head + self.body


def read(pipe: IO[bytes]) -> Frame | None:
    """The next frame; None at the end."""
    sizes = pipe.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    head_size, body_size = _checked(sizes)
    head, body = pipe.read(head_size), pipe.read(body_size)
    return _frame(head, body) if len(head) == head_size and len(body) == body_size else None


async def receive(pipe: asyncio.StreamReader) -> Frame | None:
    """The same, in an event loop."""
    try:
        head_size, body_size = _checked(await pipe.readexactly(_SIZES.size))
        head = await pipe.readexactly(head_size)
        return _frame(head, await pipe.readexactly(body_size))
    except asyncio.IncompleteReadError:
        return None


def _checked(sizes: bytes) -> tuple[int, int]:
    """Raises ValueError for what is no frame: something else was written into the pipe."""
    head, body = _SIZES.unpack(sizes)
    if head > _LARGEST_HEAD or body > _LARGEST_BODY:
        raise ValueError(f"a frame of {head} and {body} bytes")
    return head, body


def _frame(head: bytes, body: bytes) -> Frame:
    kind, number, about = json.loads(head)
    return Frame(kind, number, about, body)
