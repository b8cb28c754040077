"""Proofs that can be checked offline: an entry is in a log whose checkpoint is signed.

References:
    C2SP, "Transparency Log Proofs", c2sp.org/tlog-proof.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from ouzel.errors import DataLoss
from ouzel.ledger.tlog.checkpoint import Checkpoint, read_checkpoint
from ouzel.ledger.tlog.merkle import SIZE, leaf_hash, root_of_inclusion
from ouzel.ledger.tlog.note import VerifierKey

_HEAD = "c2sp.org/tlog-proof@v1"
_LONGEST = 63  # hashes


@dataclass(frozen=True)
class Proof:
    """A place in a log, and the way from there to a checkpoint.

    Attributes:
        index: Of the entry; 0 is the first.
        hashes: The inclusion proof, the lowest first.
        checkpoint: The signed note.
    """

    index: int
    hashes: Sequence[bytes]
    checkpoint: bytes

    def text(self) -> str:
        """The proof as a file of type .tlog-proof."""
        return "\n".join([*self.lines(), "", ""]) + self.checkpoint.decode()

    def lines(self) -> list[str]:
        """The lines above the checkpoint."""
        return [_HEAD, f"index {self.index}", *(base64.b64encode(each).decode() for each in self.hashes)]

    @staticmethod
    def parse(text: str) -> Proof:
        """Reads such a file.

        Raises:
            DataLoss: It is not a proof.
        """
        head, separator, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        if len(lines) > 1 and lines[1].startswith("extra "):
            del lines[1]  # nothing that a proof says rests on it
        try:
            if lines[0] != _HEAD or not separator or not lines[1].startswith("index "):
                raise ValueError
            index = int(lines[1].removeprefix("index "))
            hashes = [base64.b64decode(each, validate=True) for each in lines[2:]]
        except (ValueError, IndexError, binascii.Error) as error:
            raise DataLoss(f"this is not a proof of the form {_HEAD}") from error
        proof = Proof(index, hashes, checkpoint.encode())
        if proof.lines() != lines or len(hashes) > _LONGEST or any(len(each) != SIZE for each in hashes):
            raise DataLoss(f"this is not a proof of the form {_HEAD}")
        return proof


def verify_proof(text: str, entry: bytes, key: VerifierKey) -> tuple[Proof, Checkpoint]:
    """Checks that an entry is in a log.

    Args:
        text: The proof.
        entry: The entry's bytes.
        key: Of the log.

    Returns:
        The proof and its checkpoint.

    Raises:
        DataLoss: The proof is damaged, is of another entry, or its checkpoint is not signed by the key.
    """
    proof = Proof.parse(text)
    checkpoint, _ = read_checkpoint(proof.checkpoint, key)
    if root_of_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.hashes) != checkpoint.root:
        raise DataLoss(f"the proof does not lead from this entry, as entry {proof.index}, to the checkpoint")
    return proof, checkpoint
