"""Files on their way in, in pieces."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

from ouzel.checks import within
from ouzel.errors import InvalidArgument, ResourceExhausted
from ouzel.worker.artifacts.incoming import Incoming
from ouzel.worker.artifacts.protocol import Artifacts
from ouzel_protos import manifest
from ouzel_protos.manifest import BadEntry
from ouzel_protos.v1 import dataset_pb2 as pb

LARGEST_CHUNK = 2**20


class Reservation(Protocol):
    """Room for the file that an upload brings."""

    def take(self, size: int) -> None:
        """Reserves the bytes of the next file. Raises ResourceExhausted."""

    def renew(self) -> None:
        """Says that it still comes."""

    def done(self) -> None:
        """Says that it is stored."""

    def release(self) -> None:
        """Says that it does not come, unless it is stored."""


class Upload:
    """An upload: one file after another, each in pieces.

    Call `begin`, then `write` until the file's size is reached, then `begin` for the next one. `close` throws away what
    is not complete. All methods raise InvalidArgument, or ResourceExhausted for the owner's limit or a full disk.

    Args:
        artifacts: Takes the files.
        room: Bytes that may be added.
        reservation: Has room for each file; None if there is enough.

    Attributes:
        files: How many were completed.
        bytes: Their size together.
    """

    def __init__(self, artifacts: Artifacts, room: int, reservation: Reservation | None = None) -> None:
        self._artifacts, self._room, self._reservation = artifacts, room, reservation
        self._file: pb.FileRef | None = None
        self._incoming: Incoming | None = None
        self._open = ExitStack()
        self.files = self.bytes = 0

    def begin(self, file: pb.FileRef) -> None:
        """Begins a file of a known digest and size."""
        self.check_complete()
        checked(manifest.check_file, file, "file")
        if file.size > self._room:
            raise ResourceExhausted(
                f"file.size: {file.size} bytes are more than the {max(self._room, 0)} that are left to you; delete a "
                "data set"
            )
        if self._reservation is not None:
            self._reservation.take(file.size)
        self._file = file
        self._incoming = self._open.enter_context(self._artifacts.incoming())
        self._keep_whole()

    def write(self, chunk: pb.Chunk) -> None:
        """Adds a piece to the file that was begun."""
        if self._file is None or self._incoming is None:
            raise InvalidArgument("chunk: no file was begun", field="chunk")
        got, name = self._incoming.size, f"the file {self._file.sha256[:12]}"
        within("chunk.data", len(chunk.data), 1, LARGEST_CHUNK, unit="bytes")
        if chunk.offset != got:
            raise InvalidArgument(f"chunk.offset: {chunk.offset}, but {name} goes on at {got}", field="chunk.offset")
        if got + len(chunk.data) > self._file.size:
            raise InvalidArgument(f"chunk.data: {name} has more than its {self._file.size} bytes", field="chunk.data")
        self._incoming.write(chunk.data)
        if self._reservation is not None:
            self._reservation.renew()
        self._keep_whole()

    def _keep_whole(self) -> None:
        """If nothing is missing, which is so at once for an empty file."""
        assert self._file is not None
        assert self._incoming is not None
        if self._incoming.size == self._file.size:
            _, size = self._incoming.keep(self._file.sha256)
            if self._reservation is not None:
                self._reservation.done()
            self.close()
            self.files, self.bytes, self._room = self.files + 1, self.bytes + size, self._room - size

    def check_complete(self) -> None:
        """Raises InvalidArgument if bytes of the present file are missing."""
        if self._file is not None and self._incoming is not None:
            raise InvalidArgument(
                f"file.size: {self._file.sha256[:12]} ended after {self._incoming.size} of {self._file.size} bytes",
                field="file.size",
            )

    def close(self) -> None:
        """Throws away what is not complete."""
        self._open.close()
        if self._reservation is not None:
            self._reservation.release()
        self._file = self._incoming = None


def checked(check: Callable[..., None], *arguments: Any) -> None:
    """A check of `ouzel_protos.manifest`, whose errors become InvalidArgument."""
    try:
        check(*arguments)
    except BadEntry as error:
        raise InvalidArgument(str(error), field=error.field) from None
