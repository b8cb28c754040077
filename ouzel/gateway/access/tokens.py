"""Tokens of OpenID Connect (JWT, RFC 7519), read with the caution of RFC 8725: whose they are, and what they allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from ouzel.errors import InvalidArgument, Unauthenticated
from ouzel.gateway.access.caller import ALL, ROLES, Caller, checked_patterns
from ouzel.gateway.access.issuer_keys import Fetch, IssuerKeys
from ouzel.gateway.access.tenants import Issuer, Tenants

LONGEST = 8192  # characters of a token
_LONGEST_NAME = 200  # characters
# What a token must hold. `exp`, `nbf` and `iat` are compared with the clock where they are there.
_REQUIRED: Any = {"require": ["exp", "iss", "aud"]}
_WRONG: tuple[tuple[type[Exception], str], ...] = (  # the first that fits
    (jwt.ExpiredSignatureError, "the token is expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidSignatureError, "the signature of the token is wrong"),
    (jwt.MissingRequiredClaimError, "the token lacks one of the claims exp, iss, aud"),
)


class Tokens:
    """Reads tokens of the issuers of the operator's file.

    What a header says of keys (`jku`, `x5u`, `jwk`, `x5c`) is not looked at: keys come from the issuers alone.

    Args:
        fetch: Reads a JSON document at a URL, with certificates that its server may have been signed with.
        monotonic: Seconds that do not go back.
    """

    def __init__(self, fetch: Fetch | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._monotonic = fetch, monotonic
        self._keys: dict[str, IssuerKeys] = {}

    def refresh(self, tenants: Tenants) -> None:
        """Takes over the issuers that the file has now, and fetches keys that are due. One thread calls it."""
        self._keys = {
            url: known
            if (known := self._keys.get(url)) is not None and known.issuer == issuer
            else IssuerKeys(issuer, self._fetch, self._monotonic)
            for url, issuer in tenants.issuers.items()
        }
        for each in self._keys.values():
            each.refresh()

    def caller(self, text: str, tenants: Tenants) -> Caller:
        """Who shows a token.

        Args:
            text: The token.
            tenants: The file as it is now.

        Raises:
            Unauthenticated: The token is none, is not good here, or not any more.
            Unavailable: The keys of its issuer are not there.
        """
        if len(text) > LONGEST:
            raise Unauthenticated(f"the token has more than {LONGEST} characters")
        try:
            header = jwt.get_unverified_header(text)
            issuer = self._issuer(jwt.decode(text, options={"verify_signature": False}).get("iss"))
            algorithm = header.get("alg")
            if not isinstance(algorithm, str) or algorithm not in issuer.issuer.algorithms or "crit" in header:
                raise Unauthenticated("the token is signed in a way that is not accepted here")
            claims = jwt.decode(
                text,
                issuer.find(algorithm, header.get("kid")),
                algorithms=[algorithm],
                audience=issuer.issuer.audience,
                issuer=issuer.issuer.url,
                leeway=issuer.issuer.leeway_s,
                options=_REQUIRED,
            )
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unauthenticated(_words(error)) from None
        return _caller(issuer.issuer, claims, tenants)

    def _issuer(self, url: object) -> IssuerKeys:
        known = self._keys.get(url) if isinstance(url, str) else None
        if known is None:
            raise Unauthenticated("the issuer of the token is not known here")
        return known


def _words(error: Exception) -> str:
    return next(
        (words for kind, words in _WRONG if isinstance(error, kind)), "the token is not a JWT that is good here"
    )


def _caller(issuer: Issuer, claims: Mapping[str, Any], tenants: Tenants) -> Caller:
    name = claims.get(issuer.name_claim)
    if not isinstance(name, str) or not name or not name.isprintable():
        raise Unauthenticated(f"the token's claim {issuer.name_claim} names nobody")
    wanted = issuer.tenant or _claim(claims, issuer.tenant_claim)
    tenant = tenants.tenants.get(wanted) if isinstance(wanted, str) else None
    if tenant is None or (issuer.tenants and tenant.name not in issuer.tenants):
        raise Unauthenticated("the token is of a tenant that its issuer does not speak for here")
    given = _words_of(_claim(claims, issuer.roles_claim))
    # An administrator may act for every tenant: no issuer says that of somebody unless the operator has named how.
    roles = {issuer.role_names.get(each) for each in given} if issuer.role_names else set(given) - {"admin"}
    models: tuple[str, ...] = ALL
    if issuer.models_claim:
        try:
            models = checked_patterns(_words_of(_claim(claims, issuer.models_claim)))
        except InvalidArgument:
            models = ()  # none
    return tenant.caller(name[:_LONGEST_NAME], frozenset(ROLES) & roles, models)


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by the names of objects around it, with dots: "realm_access.roles"."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _words_of(value: Any) -> list[str]:
    """The strings of a list, or the words of a text; of anything else none."""
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
