"""What is said over sockets about processes that are wanted: a JSON object after its size, and files along with it."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEAD = struct.Struct("!I")  # bytes of the object that follows
_MOST_FILES = 3


@dataclass(frozen=True)
class Request:
    """A process that is wanted.

    Attributes:
        words: What it runs, and arguments.
        environment: All of its variables.
        folder: It works in.
        files: Its standard input, output and error.
    """

    words: list[str]
    environment: dict[str, str]
    folder: str
    files: list[int]

    @classmethod
    def of(cls, message: Mapping[str, Any], files: list[int]) -> Request:
        """What a message asks for. Raises KeyError."""
        return cls(message["words"], message["environment"], message["folder"], files)


def send(connection: socket.socket, message: Mapping[str, Any], files: Sequence[int] = ()) -> None:
    """Sends a message. Raises OSError."""
    body = json.dumps(message).encode()
    if files:
        socket.send_fds(connection, [HEAD.pack(len(body))], files)
        connection.sendall(body)
    else:
        connection.sendall(HEAD.pack(len(body)) + body)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message, and its files.

    Raises:
        EOFError: The other end is closed.
        OSError, ValueError, struct.error: This is no message.
    """
    head, files, _, _ = socket.recv_fds(connection, HEAD.size, _MOST_FILES)
    try:
        if not head:
            raise EOFError
        (left,) = HEAD.unpack(head)
        body = bytearray()
        while len(body) < left:
            if not (part := connection.recv(left - len(body))):
                raise EOFError
            body += part
        message: dict[str, Any] = json.loads(bytes(body))
    except BaseException:
        close(files)
        raise
    return message, files


def close(files: Sequence[int]) -> None:
    """Closes files."""
    for file in files:
        os.close(file)
