"""The public keys of an issuer of tokens: fetched aside, kept for a while, asked for again when one is missing."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import urllib3

from ouzel.errors import DataLoss, Unauthenticated, Unavailable
from ouzel.gateway.access.tenants import Issuer
from ouzel.gateway.access.tenants_file import secure

INTERVAL = 10.0  # s between two attempts, whatever strangers send
_AGE = 300.0  # s after which keys are fetched again without a reason
_TIMEOUT = 5.0  # s for a connection, and for each part of an answer
_MOST_BYTES = 256 * 2**10  # of an answer
_MOST_KEYS = 100
_SHORTEST_RSA = 2048  # bits
# The algorithm of a key, and what is read of it: were a private key published by mistake, its private part is not.
_KINDS = {
    ("RSA", None): ("RS256", ("kty", "n", "e")),
    ("EC", "P-256"): ("ES256", ("kty", "crv", "x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("kty", "crv", "x")),
}
_log = logging.getLogger(__name__)
Keys = Mapping[tuple[str, str], jwt.PyJWK]  # by algorithm and id
Fetch = Callable[[str, Path | None], Any]


class IssuerKeys:
    """Finds keys in memory; a thread of its own fetches them, one at a time.

    Args:
        issuer: Whose.
        fetch: Reads a JSON document at a URL, with certificates that its server may have been signed with.
        monotonic: Seconds that do not go back.
    """

    def __init__(
        self, issuer: Issuer, fetch: Fetch | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.issuer = issuer
        self._fetch, self._monotonic = fetch or fetch_json, monotonic
        self._keys: Keys = {}
        self._fetched = self._tried = -float("inf")
        self._failed, self._wanted = True, True
        self._fetching = threading.Lock()  # held while a fetch runs

    def find(self, algorithm: str, id: str | None) -> jwt.PyJWK:
        """The key that a token names; without a name, the only one of the algorithm.

        Raises:
            Unauthenticated: The issuer has none such, as far as could be seen in the last seconds.
            Unavailable: It is being fetched, or the issuer does not answer: the same token may work later.
        """
        now = self._monotonic()
        if now - self._fetched <= self.issuer.keys_s:
            if id is not None:
                found = self._keys.get((algorithm, id))
            else:
                fitting = [key for (name, _), key in self._keys.items() if name == algorithm]
                found = fitting[0] if len(fitting) == 1 else None
            if found is not None:
                return found
            if not self._failed and now - self._fetched < INTERVAL:
                raise Unauthenticated("the token is signed with a key that its issuer does not publish")
        self._wanted = True
        raise Unavailable(f"the keys of the issuer {self.issuer.name} are not there yet; try again")

    def refresh(self) -> None:
        """Starts a fetch if one is due. Returns at once."""
        now = self._monotonic()
        due = self._wanted or self._failed or now - self._fetched > min(_AGE, self.issuer.keys_s / 2)
        if due and now - self._tried >= INTERVAL and self._fetching.acquire(blocking=False):
            self._tried, self._wanted = now, False
            threading.Thread(target=self._run, name="issuer-keys", daemon=True).start()

    def _run(self) -> None:
        began = self._monotonic()
        try:
            keys = self._read()
        except Exception as error:  # noqa: BLE001 - whatever an issuer sends, the keys that are known stay
            if not self._failed or not self._keys:
                _log.warning("issuer %s: its keys cannot be fetched: %s", self.issuer.name, error)
            self._failed = True
        else:
            self._keys, self._fetched, self._failed = keys, began, False
        finally:
            self._fetching.release()

    def _read(self) -> Keys:
        issuer = self.issuer
        described = self._fetch(issuer.url.rstrip("/") + "/.well-known/openid-configuration", issuer.ca_file)
        if not isinstance(described, dict) or described.get("issuer") != issuer.url:
            raise DataLoss(f"its description is not of {issuer.url}")
        url = described.get("jwks_uri")
        if not isinstance(url, str) or not secure(url):
            raise DataLoss("its jwks_uri does not begin with https://")
        document = self._fetch(url, issuer.ca_file)
        keys = read_keys(document)
        if not any(algorithm in issuer.algorithms for algorithm, _ in keys):
            raise DataLoss(f"it publishes no key for {', '.join(issuer.algorithms)}")
        return keys


def read_keys(document: Any) -> Keys:
    """The keys of a JWK set (RFC 7517) that signatures of tokens are checked with; others are passed over.

    Raises:
        DataLoss: It is no such set.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise DataLoss(f"its keys are not a list of at most {_MOST_KEYS}")
    keys: dict[tuple[str, str], jwt.PyJWK] = {}
    for each in listed:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        kind = (each.get("kty"), None if each.get("kty") == "RSA" else each.get("crv"))
        try:
            algorithm, parts = _KINDS[kind]  # type: ignore[index]  # what a stranger's set says; a KeyError is below
            if each.get("alg", algorithm) != algorithm:
                continue
            key = jwt.PyJWK({part: each[part] for part in parts}, algorithm)
        except (KeyError, TypeError, ValueError, jwt.PyJWTError):
            continue
        if algorithm == "RS256" and key.key.key_size < _SHORTEST_RSA:
            continue
        keys[algorithm, str(each.get("kid", ""))] = key
    return keys


def fetch_json(url: str, ca_file: Path | None) -> Any:
    """Reads a JSON document, without redirects, and within limits of time and size.

    Raises:
        Unavailable: It could not be had.
        DataLoss: It is no JSON, or too large.
    """
    context = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else None
    deadline = time.monotonic() + 2 * _TIMEOUT
    try:
        with urllib3.PoolManager(ssl_context=context) as pool:
            answer = pool.request("GET", url, preload_content=False, redirect=False, retries=False, timeout=_TIMEOUT)
            try:
                if answer.status != 200:
                    raise Unavailable(f"{url} answers with status {answer.status}")
                raw = b""
                while len(raw) <= _MOST_BYTES and time.monotonic() < deadline and (part := answer.read1(2**16)):
                    raw += part
            finally:
                answer.close()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unavailable(f"{url} does not answer ({type(error).__name__})") from error
    if len(raw) > _MOST_BYTES:
        raise DataLoss(f"{url} answers with more than {_MOST_BYTES} bytes")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise DataLoss(f"{url} does not answer with JSON") from None
