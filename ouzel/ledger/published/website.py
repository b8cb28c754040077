"""The published files of a log on a web server, for those who verify it."""

from __future__ import annotations

import urllib.error
import urllib.request
from contextlib import AbstractContextManager

from ouzel.errors import FailedPrecondition, Unavailable

_TIMEOUT = 20.0  # s
_LONGEST = 256 * (65_535 + 2)  # bytes of a file: a bundle of the longest entries


class Website:
    """Files below a URL, which are read only.

    Args:
        url: "https://HOST/PREFIX".
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def __str__(self) -> str:
        return self._url

    def read(self, path: str) -> bytes | None:
        """See `Storage`."""
        request = urllib.request.Request(f"{self._url}/{path}", headers={"Accept-Encoding": "identity"})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                content: bytes = answer.read(_LONGEST + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (404, 410):
                return None
            raise Unavailable(f"{self._url}/{path} answers {error.code}") from error
        except (OSError, ValueError) as error:
            raise Unavailable(f"{self._url}/{path} does not answer ({error})") from error
        if len(content) > _LONGEST:
            raise Unavailable(f"{self._url}/{path} has more than {_LONGEST} bytes")
        return content

    def paths(self) -> list[str] | None:
        """See `Storage`."""
        return None

    def create(self, path: str, content: bytes) -> None:
        """Refuses."""
        raise self._refusal()

    def swap(self, old: bytes | None, new: bytes) -> None:
        """Refuses."""
        raise self._refusal()

    def delete(self, path: str) -> None:
        """Refuses."""
        raise self._refusal()

    def locked(self, deadline: float) -> AbstractContextManager[None]:
        """Refuses."""
        raise self._refusal()

    def _refusal(self) -> FailedPrecondition:
        return FailedPrecondition(f"tiles: {self._url} can be read only", field="tiles")
