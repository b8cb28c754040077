"""Signed notes: texts with Ed25519 signatures, and the keys that verify them.

References:
    C2SP, "Note", c2sp.org/signed-note; "Transparency Log Cosignatures", c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ouzel.errors import DataLoss, InvalidArgument

ED25519 = 1  # types of signatures
COSIGNATURE = 4
_DASH = "\u2014 "
_MOST = 64  # signatures of a note
_LONGEST = 64 * 1024  # bytes of a note
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True)
class Signature:
    """A line below a note.

    Attributes:
        name: Of the key.
        key_id: 4 bytes.
        content: The signature itself; of a cosignature, 8 bytes of time come first.
    """

    name: str
    key_id: bytes
    content: bytes

    def line(self) -> str:
        """As it is written, with the line break."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.content).decode()}\n"


@dataclass(frozen=True)
class Note:
    """A text and its signatures, of which none has been verified yet.

    Attributes:
        text: With the line break at its end.
        signatures: In their order.
    """

    text: str
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """As it is written."""
        return (self.text + "\n" + "".join(each.line() for each in self.signatures)).encode()

    @staticmethod
    def parse(content: bytes) -> Note:
        """Reads a note.

        Raises:
            DataLoss: It is not a signed note.
        """
        if len(content) > _LONGEST:
            raise DataLoss(f"the note has {len(content)} bytes; at most {_LONGEST} are read")
        try:
            whole = content.decode()
        except UnicodeDecodeError as error:
            raise DataLoss("the note is not UTF-8") from error
        text, separator, rest = whole.rpartition("\n\n")
        if _CONTROL.search(whole) or not separator or not rest.endswith("\n"):
            raise DataLoss("this is not a signed note")
        lines = rest[:-1].split("\n")
        if len(lines) > _MOST:
            raise DataLoss(f"the note has {len(lines)} signatures; at most {_MOST} are read")
        return Note(text + "\n", tuple(_signature(line) for line in lines))


@dataclass(frozen=True)
class VerifierKey:
    """A public key by its name ("vkey").

    Attributes:
        name: Of the key; of a log, its origin.
        public: 32 bytes.
        kind: `ED25519` for logs, `COSIGNATURE` for witnesses.
    """

    name: str
    public: bytes
    kind: int = ED25519

    def __post_init__(self) -> None:
        check_name("key", self.name)

    @property
    def key_id(self) -> bytes:
        """4 bytes that signatures name the key by."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    @staticmethod
    def parse(text: str) -> VerifierKey:
        """Reads NAME+ID+KEY.

        Raises:
            InvalidArgument: It is not the key of an Ed25519 signature or cosignature, or the id is not that of the key.
        """
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        content = _base64(encoded)
        if content is None or len(content) != 33 or content[0] not in (ED25519, COSIGNATURE):
            raise InvalidArgument(f"key: {text[:80]!r} is not a verifier key of Ed25519 (NAME+ID+KEY)", field="key")
        key = VerifierKey(name, content[1:], content[0])
        if key.key_id.hex() != key_id:
            raise InvalidArgument(f"key: its id is {key_id[:20]!r} instead of {key.key_id.hex()}", field="key")
        return key

    def signs(self, note: Note) -> Signature | None:
        """The signature of this key under a note.

        Returns:
            None if there is none.

        Raises:
            DataLoss: There is one that is wrong.
        """
        own = [each for each in note.signatures if (each.name, each.key_id) == (self.name, self.key_id)]
        for each in own:
            if not self._fits(note.text, each.content):
                raise DataLoss(f"the signature of {self.name} does not fit the text")
        return own[0] if own else None

    def _fits(self, text: str, content: bytes) -> bool:
        message = text.encode()
        if self.kind == COSIGNATURE:
            if len(content) != 72:
                return False
            time = int.from_bytes(content[:8], "big")
            message, content = f"cosignature/v1\ntime {time}\n".encode() + message, content[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(content, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A private key with its name."""

    name: str
    private: Ed25519PrivateKey

    @property
    def verifier(self) -> VerifierKey:
        """The key that verifies what this one signs."""
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw())

    def sign(self, text: str) -> Note:
        """A text, with the line break at its end, under this key's signature."""
        return Note(text, (Signature(self.name, self.verifier.key_id, self.private.sign(text.encode())),))


def check_name(field: str, name: str) -> None:
    """Refuses a name that keys and origins may not have: with spaces, control characters or "+"."""
    if not name or "+" in name or any(c.isspace() or not c.isprintable() for c in name) or len(name) > 200:
        raise InvalidArgument(
            f"{field}: {name[:80]!r} is not a name of 1 to 200 characters without spaces and '+', such as "
            "ouzel.example/worker-1",
            field=field,
        )


def signatures(content: bytes) -> Sequence[Signature]:
    """Signature lines that stand alone, as witnesses answer.

    Raises:
        DataLoss: They are not signature lines.
    """
    return Note.parse(b"\n\n" + content).signatures


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    content = _base64(encoded)
    if not line.startswith(_DASH) or not name or "+" in name or content is None or len(content) < 5:
        raise DataLoss(f"{line[:80]!r} is not the signature of a note")
    return Signature(name, content[:4], content[4:])


def _base64(text: str) -> bytes | None:
    """What a text stands for, if there is no other text for the same bytes."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if base64.b64encode(content).decode() == text else None
