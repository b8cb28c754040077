"""Witnesses: one that was written from the specification signs what it has checked, and nothing else."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, Unavailable
from ouzel.ledger import VerifierKey, witness
from support import ledgers
from support.ledgers import Place, h

TIME = 1_700_000_000


class Witness(http.server.ThreadingHTTPServer):
    """It keeps size and root of one log, and checks consistency by RFC 6962 (section 2.1.2), read backwards."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.private = Ed25519PrivateKey.generate()
        self.key = VerifierKey("witness.example/w", self.private.public_key().public_bytes_raw(), 4)
        self.log = ""
        self.size, self.root = 0, h()
        self.lies = False

    def cosign(self, body: bytes) -> tuple[int, str]:
        head, _, note = body.decode().partition("\n\n")
        old, *proof = head.split("\n")
        try:
            size, root = ledgers.checkpoint(note, self.log)
        except (AssertionError, ValueError, InvalidSignature):
            return 403, ""
        if int(old.removeprefix("old ")) != self.size:
            return 409, f"{self.size}\n"
        path = [base64.b64decode(each) for each in proof]
        if self.size and not self._grew(path, size, root):
            return 422, ""
        self.size, self.root = size, root
        text = note.rpartition("\n\n")[0] + "\n"
        signed = self.private.sign(f"cosignature/v1\ntime {TIME + self.lies}\n{text}".encode())
        content = self.key.key_id + TIME.to_bytes(8, "big") + signed
        return 200, f"— other.example AAAAAAAA\n— {self.key.name} {base64.b64encode(content).decode()}\n"

    def _grew(self, path: list[bytes], size: int, root: bytes) -> bool:
        def up(m: int, n: int, whole: bool) -> tuple[bytes, bytes]:
            """Roots of the old and the new subtree."""
            if m == n:
                same = self.root if whole else path.pop()
                return same, same
            k = 1
            while k * 2 < n:
                k *= 2
            other = path.pop()
            if m <= k:
                before, after = up(m, k, whole)
                return before, h(b"\1", after, other)
            before, after = up(m - k, n - k, False)
            return h(b"\1", other, before), h(b"\1", other, after)

        try:
            return up(self.size, size, True) == (self.root, root) and not path
        except IndexError:
            return False


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Witness

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.cosign(body) if self.path == "/w/add-checkpoint" else (405, "")
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer.encode())))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def other() -> Iterator[Witness]:
    with Witness() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_witness_cosigns_what_grew(sqlite_place: Place, other: Witness) -> None:
    ledger = sqlite_place.open()
    other.log = str(ledger.key)
    url = f"http://127.0.0.1:{other.server_address[1]}/w/"
    receipts = []
    for count in (3, 1, 0, 300):
        receipts += [ledger.append("audit", {"n": n}) for n in range(count)]
        witness(ledger, url, other.key)
        assert other.size == len(receipts)
        text = ledger.prove(receipts[0])
        assert ledgers.proof(text, receipts[0].entry, str(ledger.key)) == 0
        assert text.count(f"— {other.key.name} ") == 1
        assert f"— {other.key.name} " in (sqlite_place.tiles / "checkpoint").read_text()
    reopened = sqlite_place.open()
    assert f"— {other.key.name} " in reopened.prove(0)
    reopened.close()
    ledger.close()


def test_a_witness_that_refuses(sqlite_place: Place, other: Witness) -> None:
    ledger = sqlite_place.open()
    ledger.append("audit", {})
    url = f"http://127.0.0.1:{other.server_address[1]}/w"
    with pytest.raises(FailedPrecondition, match="does not know this log"):
        witness(ledger, url, other.key)
    other.log = str(ledger.key)
    with pytest.raises(DataLoss, match="no cosignature"):
        witness(ledger, url, VerifierKey(other.key.name, bytes(32), 4))
    other.size, other.root = 1, bytes(32)
    ledger.append("audit", {})
    with pytest.raises(DataLoss, match="another history"):
        witness(ledger, url, other.key)
    other.size = 99
    with pytest.raises(DataLoss, match="has seen 99 entries"):
        witness(ledger, url, other.key)
    other.size, other.root, other.lies = 0, h(), True
    with pytest.raises(DataLoss, match="does not fit"):
        witness(ledger, url, other.key)
    with pytest.raises(Unavailable, match="405"):
        witness(ledger, url + "/elsewhere", other.key)
    with pytest.raises(InvalidArgument, match="witness: 'ftp"):
        witness(ledger, "ftp://x", other.key)
    with pytest.raises(InvalidArgument, match="type 4"):
        witness(ledger, url, ledger.key)
    assert "witness" not in (sqlite_place.tiles / "checkpoint").read_text()
    ledger.close()


def test_no_witness_is_unavailable(sqlite_place: Place, other: Witness) -> None:
    ledger = sqlite_place.open()
    with pytest.raises(Unavailable, match="does not answer"):
        witness(ledger, "http://127.0.0.1:1", other.key)
    ledger.close()
