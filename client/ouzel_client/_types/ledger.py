"""The entry of a service's log that an answer became."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LedgerEntry:
    """What a service has recorded of an answer before it sent it, and what proves that.

    `ouzel ledger check` verifies it, and so does any verifier of C2SP's tlog-proof.

    Attributes:
        index: Its place in the log, from 0.
        entry: What the log holds: canonical JSON (RFC 8785).
        salt: The key of the hashes in the entry; keep it to show later which image the entry is about. The log does not
            hold it.
        proof: C2SP tlog-proof with a signed checkpoint.
    """

    index: int
    entry: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    proof: str = field(repr=False)

    @property
    def kind(self) -> str:
        """What the entry is about: "explanation" or "audit"."""
        return str(json.loads(self.entry)["kind"])

    @property
    def facts(self) -> Mapping[str, Any]:
        """What it states."""
        facts: Mapping[str, Any] = json.loads(self.entry)["facts"]
        return facts

    def files(self) -> Mapping[str, bytes]:
        """What has to be kept, by name: `entry.json`, `entry.salt` (in hex) and `entry.tlog-proof`."""
        return {
            "entry.json": self.entry,
            "entry.salt": self.salt.hex().encode() + b"\n",
            "entry.tlog-proof": self.proof.encode(),
        }

    def document(self) -> dict[str, Any]:
        """As values of JSON; `entry` is the text whose bytes the proof is about."""
        return {"index": self.index, "entry": self.entry.decode(), "salt": self.salt.hex(), "proof": self.proof}

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Writes `files` into a folder.

        Args:
            folder: Is made if it is missing.

        Returns:
            The paths of the files.

        Raises:
            OSError: A file cannot be written.
        """
        base = Path(folder)
        base.mkdir(parents=True, exist_ok=True)
        for name, content in self.files().items():
            (base / name).write_bytes(content)
        return tuple(base / name for name in self.files())
