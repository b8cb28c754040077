"""Witnesses: others who sign that they have seen the log grow, and never shrink or fork.

References:
    C2SP, "Transparency Log Witness Protocol", c2sp.org/tlog-witness.
"""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Sequence

from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, Unavailable
from ouzel.ledger.ledger import Ledger
from ouzel.ledger.tlog.note import COSIGNATURE, Note, Signature, VerifierKey, signatures

_LONGEST = 64 * 1024  # bytes of an answer
_TRIES = 3


def witness(ledger: Ledger, url: str, key: VerifierKey, timeout: float = 20.0) -> Signature:
    """Has a witness cosign the published checkpoint, and keeps the cosignature with it.

    Args:
        ledger: The log. It is published first.
        url: The witness's submission prefix, "https://...".
        key: The witness's key, of cosignatures.
        timeout: Seconds for each request.

    Returns:
        The cosignature, which proofs of this checkpoint contain from now on.

    Raises:
        DataLoss: The witness saw another history of this log, or its answer is not signed by the key.
        FailedPrecondition: The witness does not know the log or its key.
        InvalidArgument: It is not a URL or not a witness's key.
        Unavailable: The witness does not answer, or others published meanwhile; ask again.
    """
    if not url.startswith(("https://", "http://")):
        raise InvalidArgument(f"witness: {url[:80]!r} is not an https:// or http:// URL", field="witness")
    if key.kind != COSIGNATURE:
        raise InvalidArgument(f"key: {key} is a log's key, not one of cosignatures (type 4)", field="key")
    checkpoint, note = ledger.publish()
    old = 0
    for _ in range(_TRIES):
        request = _request(ledger, old, checkpoint.size, note)
        status, answer = _post(f"{url.rstrip('/')}/add-checkpoint", request, timeout)
        if status == 200:
            signature = _cosignature(answer, note, key)
            if not ledger.cosign(checkpoint, [signature]):
                raise Unavailable("the log was published again before the witness had answered; ask again")
            return signature
        if status != 409:
            raise _refusal(status, url)
        old = _size(answer)
        if old > checkpoint.size:
            raise DataLoss(f"the witness has seen {old} entries of this log, which has {checkpoint.size}")
    raise Unavailable(f"{url} has another size of the log each time")


def _request(ledger: Ledger, old: int, new: int, note: bytes) -> bytes:
    proof: Sequence[bytes] = ledger.consistency(old, new)
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in proof), "", ""]
    return "\n".join(lines).encode() + note


def _post(url: str, body: bytes, timeout: float) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=body, method="POST", headers={"Content-Type": "text/plain"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read(_LONGEST)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(_LONGEST)
    except (OSError, ValueError) as error:
        raise Unavailable(f"the witness {url} does not answer ({error})") from error


def _cosignature(answer: bytes, note: bytes, key: VerifierKey) -> Signature:
    try:
        signature = key.signs(Note(Note.parse(note).text, tuple(signatures(answer))))
    except DataLoss as error:
        raise DataLoss(f"the witness's answer is no good: {error}") from error
    if signature is None:
        raise DataLoss(f"the witness's answer has no cosignature of the key {key}")
    return signature


def _size(answer: bytes) -> int:
    text = answer.strip()
    if not text.isdigit() or len(text) > 19:
        raise DataLoss(f"the witness's answer {answer[:40]!r} is not a size")
    return int(text)


def _refusal(status: int, url: str) -> Exception:
    if status in (403, 404):
        return FailedPrecondition(f"the witness {url} does not know this log, or its key (status {status})")
    if status == 422:
        return DataLoss(f"the witness {url} saw another history of this log (status 422)")
    return Unavailable(f"the witness {url} answers {status}")
