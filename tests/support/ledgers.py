"""Logs for tests, and a verifier that was written from the specifications alone: it shares no code with Ouzel's."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ouzel.ledger import Ledger, LedgerOptions, compare, open_database, open_ledger, open_storage, verify

ORIGIN = "ouzel.example/test"
IMAGE = hashlib.sha256(b"a photograph").hexdigest()


@dataclass(frozen=True)
class Place:
    """Where a log of a test lies."""

    url: str
    folder: Path

    @property
    def tiles(self) -> Path:
        return self.folder / "tiles"

    def options(self, **rest: Any) -> LedgerOptions:
        chosen = {"database": self.url, "tiles": self.tiles, "key": self.folder / "key", "publish_every": 0.0} | rest
        return LedgerOptions(origin=ORIGIN, **chosen)

    def open(self, **rest: Any) -> Ledger:
        return open_ledger(self.options(**rest))


def h(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return h()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return h(b"\1", mth(leaves[:k]), mth(leaves[k:]))


def checkpoint(note: str, vkey: str) -> tuple[int, bytes]:
    """Size and root of a signed checkpoint (signed-note, tlog-checkpoint)."""
    text, _, signatures = note.rpartition("\n\n")
    name, key_id, key = vkey.strip().split("+", 2)
    public = base64.b64decode(key)
    assert public[0] == 1
    assert h(name.encode(), b"\n", public)[:4].hex() == key_id
    lines = [base64.b64decode(s.split(" ")[2]) for s in signatures.splitlines() if s.split(" ")[1] == name]
    (signature,) = [line[4:] for line in lines if line[:4].hex() == key_id]
    Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature, (text + "\n").encode())
    origin, size, root = text.split("\n")
    assert origin == name
    return int(size), base64.b64decode(root)


def proof(text: str, entry: bytes, vkey: str) -> int:
    """The index of an entry whose proof holds (tlog-proof)."""
    head, _, note = text.partition("\n\n")
    kind, index, *hashes = head.split("\n")
    size, root = checkpoint(note, vkey)
    assert kind == "c2sp.org/tlog-proof@v1"
    at = int(index.removeprefix("index "))
    path = [base64.b64decode(each) for each in hashes]

    def up(m: int, n: int) -> bytes:
        """RFC 6962, section 2.1.1: PATH(m, D[n]), read backwards; the last hash of the path is the uppermost."""
        if n == 1:
            return h(b"\0", entry)
        k = 1
        while k * 2 < n:
            k *= 2
        other = path.pop()
        return h(b"\1", up(m, k), other) if m < k else h(b"\1", other, up(m - k, n - k))

    assert at < size
    assert up(at, size) == root
    assert not path
    return at


def openssl(note: bytes, vkey: str, folder: Path) -> bool:
    """Whether the program openssl finds the signature of a note good."""
    text, _, line = note.rpartition(b"\n\n")
    public = base64.b64decode(vkey.strip().split("+", 2)[2])[1:]
    (folder / "text").write_bytes(text + b"\n")
    (folder / "signature").write_bytes(base64.b64decode(line.split(b" ")[2])[4:])
    (folder / "public.der").write_bytes(bytes.fromhex("302a300506032b6570032100") + public)  # RFC 8410
    command = "openssl pkeyutl -verify -pubin -keyform DER -inkey public.der -rawin -in text -sigfile signature"
    return subprocess.run(command.split(), cwd=folder, capture_output=True, check=False, timeout=60).returncode == 0


def sound(place: Place, ledger: Ledger) -> int:
    """Verifies files and database. Returns how many entries there are."""
    result = verify(open_storage(place.tiles), ledger.key)
    assert result.problems == ()
    assert result.checkpoint is not None
    database = open_database(place.url)
    try:
        assert compare(database, result) == ()
    finally:
        database.close()
    return result.checkpoint.size
