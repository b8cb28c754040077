"""HTTP requests to one endpoint: bounded in time and size, without redirects, and without a word in a log."""

from __future__ import annotations

import email.utils
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import urllib3
from urllib3 import exceptions as http_errors

from ouzel.endpoints.description.config import Endpoint
from ouzel.endpoints.description.secrets import Secret
from ouzel.endpoints.transport.attempts import Attempts, PassingError
from ouzel.endpoints.transport.watched import Call, Overdue, pools, run
from ouzel.errors import FailedPrecondition, OuzelError, Unavailable

_PASSING = frozenset({429, 502, 503, 504})
_CHUNK = 64 * 2**10
_CONNECTION_PROBLEMS: tuple[tuple[type[Exception], str], ...] = (  # the first that fits; "" is that time is over
    (http_errors.NameResolutionError, "the name of its host cannot be resolved"),
    (http_errors.NewConnectionError, "refuses the connection, or cannot be reached"),
    (Overdue, ""),
    (http_errors.TimeoutError, ""),
    (TimeoutError, ""),
    (http_errors.ProxyError, "its proxy does not connect"),
    (http_errors.HTTPError, "the connection broke, or it does not speak HTTP"),
    (OSError, "the connection broke"),
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """An answer: its status, its headers with lower-case names, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Asks one endpoint. Threads may share it.

    Each attempt has a thread of its own, so that the deadline holds for everything that may hang: names, connections,
    and headers or bodies that come drop by drop.

    Args:
        endpoint: Whose limits, headers, certificates and proxy apply.

    Raises:
        FailedPrecondition: The proxy's secret or the certificates cannot be read.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._who = endpoint.who
        self._attempts = Attempts(self._who, endpoint.limits)
        proxy = "" if endpoint.proxy is None else self._proxy(endpoint.proxy)
        self._absolute = bool(proxy) and endpoint.url.startswith("http:")
        tls = self._tls() if endpoint.url.startswith("https:") else None
        self._pools = pools(endpoint.limits.concurrency, tls, proxy)

    def close(self) -> None:
        """Close the connections."""
        self._pools.clear()

    def ask(
        self,
        method: str,
        url: str,
        stop: threading.Event,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        also: int = 200,
    ) -> Answer:
        """Make a request, again where that may help.

        Args:
            method: "GET" or "POST".
            url: Of the endpoint, with its query.
            stop: Set if the answer is no longer of use.
            body: Of the request.
            headers: Beside those of the operator.
            also: A status beside 200 whose answer is returned.

        Returns:
            The answer, of at most `max_response_bytes`.

        Raises:
            Unavailable: The service does not answer, or not now.
            FailedPrecondition: Its answer cannot be used. No message shows the address, a header or an answer.
        """
        try:
            sent = {name: secret.reveal() for name, secret in self._endpoint.headers}
        except FailedPrecondition as error:
            raise FailedPrecondition(f"{self._who}: headers: {error}") from None
        sent |= {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ouzel"}
        call = Call(method, url, body, sent | dict(headers or {}), self._absolute)

        def attempt(seconds: float) -> Answer:
            try:
                answer = run(self._pools, call, self._read, seconds)
            except Exception as error:  # noqa: BLE001 - texts of others may hold the address
                raise self._translated(error) from None
            if answer.status not in (200, also):
                raise self._refusal(answer)
            return answer

        return self._attempts.run(attempt, stop)

    def _read(self, response: urllib3.BaseHTTPResponse) -> Answer:
        most = self._endpoint.limits.max_response_bytes
        headers = {name.lower(): value for name, value in response.headers.items()}
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise FailedPrecondition(f"{self._who}: answered with a compressed body, which was not asked for")
        body = bytearray()
        while chunk := response.read(_CHUNK):
            body += chunk
            if len(body) > most:
                raise FailedPrecondition(f"{self._who}: answered with more than {most} bytes (max_response_bytes)")
        return Answer(response.status, headers, bytes(body))

    def _translated(self, error: Exception) -> Exception:
        """Errors of urllib3 hold addresses; ours do not."""
        if isinstance(error, OuzelError):
            return error
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return FailedPrecondition(f"{self._who}: its certificate is not valid, or signed by an unknown authority")
        for kind, problem in _CONNECTION_PROBLEMS:
            if isinstance(error, kind):
                if problem:
                    return PassingError(Unavailable(f"{self._who}: {problem}"))
                seconds = self._endpoint.limits.timeout_s
                return Unavailable(f"{self._who}: did not answer within {seconds:g} s (timeout_s)")
        _log.error("%s: %s while it was asked", self._who, type(error).__name__)
        return Unavailable(f"{self._who}: could not be asked")

    def _refusal(self, answer: Answer) -> Exception:
        status = answer.status
        told = f"{self._who}: answered {status}"
        if status in _PASSING:
            what = "too many requests" if status == 429 else "not available"
            return PassingError(Unavailable(f"{told}, {what}"), _seconds(answer.headers.get("retry-after", "")))
        if status >= 500:
            return Unavailable(f"{told}, an error of the service")
        if status in (401, 403):
            what = "it does not accept the operator's credentials"
        elif 300 <= status < 400:
            what = "a redirect, which is not followed"
        else:
            what = "it does not take the request, or has no such model"
        return FailedPrecondition(f"{told}: {what}")

    def _proxy(self, secret: Secret) -> str:
        try:
            url = secret.reveal()
        except FailedPrecondition as error:
            raise FailedPrecondition(f"{self._who}: proxy: {error}") from None
        if not url.startswith(("http://", "https://")):
            raise FailedPrecondition(f"{self._who}: proxy: is not a URL of http or https")
        return url

    def _tls(self) -> ssl.SSLContext:
        path = self._endpoint.ca_file
        try:
            return ssl.create_default_context(cafile=None if path is None else str(path))
        except (OSError, ssl.SSLError):
            raise FailedPrecondition(f"{self._who}: ca_file: {path} holds no certificates that can be read") from None


def _seconds(text: str) -> float:
    """Of a Retry-After: seconds or a date; 0 if it is neither."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0
