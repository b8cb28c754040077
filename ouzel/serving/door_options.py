"""Who may come in by the gateway that `ouzel up` starts: options that are handed to its command as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ouzel.checks import is_loopback
from ouzel.errors import InvalidArgument

LOOPBACK = "127.0.0.1"
_PATHS = ("tenants", "tls_certificate", "tls_key", "tls_client_ca", "worker_tokens")


@dataclass(frozen=True)
class DoorOptions:
    """Where the gateway listens, and whom it knows. docs/access.md says what is in the files.

    Attributes:
        host: Its address. Another one than loopback needs `tenants`.
        tenants: tenants.toml; None lets everybody on this machine in.
        keys: Database of API keys: a file, or postgresql://...; None is the one in the state folder.
        tls_certificate: In PEM; None listens in plain text.
        tls_key: Its private key.
        tls_client_ca: Who may sign certificates of clients; None asks for none.
        worker_tokens: File with a token of the worker for each tenant, which the worker reads, too.

    Raises:
        InvalidArgument: The options do not go together. What is in the files is not looked at.
    """

    host: str = LOOPBACK
    tenants: Path | None = None
    keys: str | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    worker_tokens: Path | None = None

    def __post_init__(self) -> None:
        for name in _PATHS:  # the one who starts it again may stand in another folder
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path).expanduser().absolute())
        if self.keys is not None and "://" not in self.keys:
            object.__setattr__(self, "keys", str(Path(self.keys).expanduser().absolute()))
        if self.keys is not None and self.tenants is None:
            raise InvalidArgument("keys: needs tenants, too: each key belongs to one", field="keys")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidArgument("tls_certificate and tls_key go together", field="tls_certificate")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise InvalidArgument("tls_client_ca: needs tls_certificate and tls_key", field="tls_client_ca")
        if self.tenants is None and not is_loopback(self.host):
            raise InvalidArgument(
                f"gateway-host: {self.host!r:.80} is not loopback, and nothing says who may call; give tenants, too",
                field="host",
            )

    def flags(self) -> list[str]:
        """The arguments for the gateway's command."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
