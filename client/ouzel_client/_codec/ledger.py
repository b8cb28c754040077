"""The entry of a log in an answer."""

from __future__ import annotations

from ouzel_client._types.ledger import LedgerEntry
from ouzel_protos.v1 import ledger_pb2 as pb


def entry(message: pb.LedgerEntry) -> LedgerEntry:
    """The entry of a message."""
    return LedgerEntry(message.index, message.entry, message.salt, message.proof)
