"""A TorchServe that runs, and how to find it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ouzel.torchserve import log, rest
from ouzel.torchserve.errors import PublicationFailed, ServerUnreachable
from ouzel_protos.local import OPTIONS, SERVING, read_serving, token

_CALL = 10.0  # s for what TorchServe answers at once


@dataclass(frozen=True)
class Server:
    """A TorchServe that runs.

    Attributes:
        rest: URL of the inference API, without a final slash.
        management: URL of the management API, without a final slash.
        key_file: The file with its tokens.
        log: Its log, where that is a file of this machine.
    """

    rest: str
    management: str
    key_file: Path
    log: Path | None = None

    @classmethod
    def local(cls, state: Path) -> Server | None:
        """The TorchServe that runs with a state folder.

        Args:
            state: The state folder.

        Returns:
            The server; None if it does not run.
        """
        record = read_serving(state)
        if record is None:
            return None
        server = cls(record["rest"], record["management"], Path(record["key_file"]), state / log.FILE)
        return server if server._listens() else None

    @classmethod
    def found(cls, place: Mapping[str, str] | None) -> Server | None:
        """The TorchServe at a place, as it is now.

        Args:
            place: {"state": FOLDER}, or {"rest": URL, "management": URL, "key_file": PATH}, or None.

        Returns:
            The server; None without a place, or if no TorchServe runs with that state folder.
        """
        if not place:
            return None
        if "state" in place:
            return cls.local(Path(place["state"]))
        return cls(place["rest"].rstrip("/"), place["management"].rstrip("/"), Path(place["key_file"]))

    def _listens(self) -> bool:
        """Whether the server listens; its process may have been killed. Any other trouble counts as running."""
        try:
            self.manage("GET", "/models?limit=1")
        except PublicationFailed as error:
            cause = error.__cause__.__cause__ if error.__cause__ else None
            return not isinstance(cause, ConnectionRefusedError)
        return True

    def manage(self, method: str, path: str, timeout: float = _CALL) -> tuple[int, bytes]:
        """Calls the management API.

        Args:
            method: "GET", "POST", "PUT" or "DELETE".
            path: With its query.
            timeout: In seconds.

        Returns:
            Status and body of the answer.

        Raises:
            ServerUnreachable: TorchServe does not answer, or its key is missing.
        """
        with reached(self.management):
            return rest.call(method, self.management + path, token(self.key_file, "management"), timeout=timeout)


def expected(place: Mapping[str, str] | None) -> bool:
    """Whether a TorchServe is meant to run at a place, even if it is down now.

    It is if the place was named by the operator, or if it was started with the state folder and not stopped in order.

    Args:
        place: As `Server.found` takes it.
    """
    if not place or "state" not in place:
        return bool(place)
    state = Path(place["state"])
    return "named" in place or any((state / name).exists() for name in (SERVING, OPTIONS))


@contextlib.contextmanager
def reached(url: str) -> Iterator[None]:
    """Makes ServerUnreachable of errors that mean that `url` does not answer."""
    try:
        yield
    except (rest.Unreachable, OSError, ValueError) as error:
        raise ServerUnreachable(f"TorchServe at {url} does not answer: {error}") from error
