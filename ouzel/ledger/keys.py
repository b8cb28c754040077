"""The key that signs checkpoints: a file that its owner alone can read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ouzel import secret_files
from ouzel.durable_files import written
from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.ledger.tlog.note import Signer, check_name


def read_key(path: Path, origin: str) -> Signer:
    """The private key in a file.

    Args:
        path: PEM, PKCS #8, not encrypted; for its owner alone.
        origin: The log's name, which is the key's.

    Raises:
        FailedPrecondition: There is no such file, or others may read it.
        InvalidArgument: It holds something else.
    """
    check_name("origin", origin)
    try:
        content = secret_files.read(path, "key")
    except OSError as error:
        raise FailedPrecondition(f"key: {path} cannot be read ({error.strerror})", field="key") from error
    try:
        key = serialization.load_pem_private_key(content.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidArgument(f"key: {path} is not a private key in PEM", field="key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidArgument(f"key: {path} is not an Ed25519 key", field="key")
    return Signer(origin, key)


def create_key(path: Path) -> None:
    """Makes a new key, unless the file is there already (of two processes, one makes it)."""
    content = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError), written(path, replace=False, mode=0o600) as temporary:
        temporary.write_bytes(content)
