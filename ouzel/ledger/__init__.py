"""A tamper-evident log of what Ouzel found and did. Others can check it without Ouzel.

`open_ledger` opens it; `Ledger.append` adds an entry, durably; `Ledger.prove` gives a proof for it. `verify` checks all
that is published, `verify_proof` one proof. docs/ledger.md says what all this shows, and what it does not.

References:
    C2SP, c2sp.org: tlog-tiles, tlog-checkpoint, signed-note, tlog-proof, tlog-witness, tlog-cosignature.
"""

from ouzel.ledger.entry import KINDS, Entry, salted_hash
from ouzel.ledger.ledger import Ledger, Receipt
from ouzel.ledger.opening import LedgerOptions, open_database, open_ledger
from ouzel.ledger.published.places import open_storage
from ouzel.ledger.published.storage import Storage
from ouzel.ledger.records import Record
from ouzel.ledger.tlog.checkpoint import Checkpoint, read_checkpoint
from ouzel.ledger.tlog.note import VerifierKey
from ouzel.ledger.tlog.proof import Proof, verify_proof
from ouzel.ledger.verification.compare import compare
from ouzel.ledger.verification.replay import Replay, replay
from ouzel.ledger.verification.verify import Problem, Verification, verify
from ouzel.ledger.verification.witness import witness

__all__ = [
    "KINDS",
    "Checkpoint",
    "Entry",
    "Ledger",
    "LedgerOptions",
    "Problem",
    "Proof",
    "Receipt",
    "Record",
    "Replay",
    "Storage",
    "Verification",
    "VerifierKey",
    "compare",
    "open_database",
    "open_ledger",
    "open_storage",
    "read_checkpoint",
    "replay",
    "salted_hash",
    "verify",
    "verify_proof",
    "witness",
]
