"""Checkpoints: how many entries a log has, and the root over them, under the log's signature.

References:
    C2SP, "Transparency Log Checkpoints", c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from ouzel.errors import DataLoss
from ouzel.ledger.tlog.merkle import EMPTY, SIZE
from ouzel.ledger.tlog.note import Note, VerifierKey


@dataclass(frozen=True)
class Checkpoint:
    """The state of a log.

    Attributes:
        origin: Which log.
        size: Number of entries.
        root: 32 bytes: the root of the Merkle tree over them.
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @staticmethod
    def parse(text: str) -> Checkpoint:
        """Reads what is signed.

        Raises:
            DataLoss: It is not a checkpoint. Extension lines are refused, because nobody here writes them.
        """
        lines = text.split("\n")
        try:
            origin, size, encoded, end = lines
            checkpoint = Checkpoint(origin, int(size), base64.b64decode(encoded, validate=True))
        except (ValueError, binascii.Error) as error:
            raise DataLoss("this is not a checkpoint of three lines: origin, size, root") from error
        if end or not origin or checkpoint.text() != text or len(checkpoint.root) != SIZE or checkpoint.size < 0:
            raise DataLoss("this is not a checkpoint of three lines: origin, size, root")
        if checkpoint.size == 0 and checkpoint.root != EMPTY:
            raise DataLoss("the checkpoint says 0 entries, and has another root than that of no entries")
        return checkpoint


def read_checkpoint(content: bytes, key: VerifierKey) -> tuple[Checkpoint, Note]:
    """The checkpoint of a signed note, verified.

    Args:
        content: The note.
        key: Of the log. Its name is the origin.

    Returns:
        The checkpoint, and the note with all signatures; those of others have not been verified.

    Raises:
        DataLoss: It is not a checkpoint, is of another log, or is not signed by this key.
    """
    note = Note.parse(content)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != key.name:
        raise DataLoss(f"the checkpoint is of the log {checkpoint.origin!r}, not of {key.name!r}")
    if key.signs(note) is None:
        raise DataLoss(f"the checkpoint has no signature of the key {key}")
    return checkpoint, note
