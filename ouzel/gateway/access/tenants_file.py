"""The operator's file tenants.toml. docs/access.md is the reference."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ouzel.checks import did_you_mean
from ouzel.endpoints.description.table import Table
from ouzel.endpoints.description.urls import check_url
from ouzel.errors import InvalidArgument
from ouzel.gateway.access.api_keys import checked_name
from ouzel.gateway.access.caller import ALL, ROLES, TenantLimits, checked_roles
from ouzel.gateway.access.tenants import CertificateOwner, Issuer, Tenant, Tenants

_MOST_TENANTS = 10_000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def parse(raw: bytes, path: Path) -> Tenants:
    """Reads the content of the file.

    Args:
        raw: TOML.
        path: The file, for messages; paths in it are relative to its folder.

    Raises:
        InvalidArgument: Names the file, the table and the key.
    """
    with _at(f"{path}: "):
        try:
            values = tomllib.loads(raw.decode("utf-8-sig"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            raise InvalidArgument(f"is not TOML ({error})") from None
        document = Table(values)
        tables, owners = document.mapping("tenants"), document.take("certificates")
        issuers = document.mapping("issuers")
        document.finish()
        if not 0 < len(tables) <= _MOST_TENANTS:
            raise InvalidArgument(f"tenants: there are {len(tables)} tables [tenants.NAME], not 1 to {_MOST_TENANTS}")
        tenants = {name: _tenant(name, each) for name, each in tables.items()}
        return Tenants(tenants, _certificates(owners, tenants), _issuers(issuers, tenants, path.parent))


def _tenant(name: str, values: object) -> Tenant:
    with _at(f"tenants.{name[:80]}."), _table(values) as table:
        checked_name("name", name)
        usual = TenantLimits()
        whole = ("burst", "concurrency", "body_bytes")
        limits = TenantLimits(
            table.number("requests_per_second", usual.requests_per_second),
            *(_whole(table, key, getattr(usual, key)) for key in whole),
        )
        return Tenant(name, _strings(table, "models", ALL), limits)


def _certificates(values: object, tenants: dict[str, Tenant]) -> dict[str, CertificateOwner]:
    if not isinstance(values, list | None):
        raise InvalidArgument("certificates: is not a list of tables [[certificates]]")
    owners: dict[str, CertificateOwner] = {}
    for number, each in enumerate(values or ()):
        with _at(f"certificates[{number}]."), _table(each) as table:
            owner = CertificateOwner(
                _known_tenant(table.needed("tenant", "say whose it is"), tenants),
                checked_name("name", table.needed("name", "give a name for logs")),
                checked_roles(_strings(table, "roles", ())),
                _strings(table, "models", ALL),
                table.text("subject"),
                table.text("san"),
            )
            key = owner.subject or owner.san
            if key in owners:
                raise InvalidArgument(f"{'subject' if owner.subject else 'san'}: {key!r:.80} comes twice")
            owners[key] = owner
    return owners


def _issuers(values: dict[str, Any], tenants: dict[str, Tenant], folder: Path) -> dict[str, Issuer]:
    issuers: dict[str, Issuer] = {}
    for name, each in values.items():
        with _at(f"issuers.{name[:80]}."), _table(each) as table:
            issuer = _issuer(name, table, tenants, folder)
            if issuer.url in issuers:
                raise InvalidArgument(f"url: {issuer.url!r:.80} comes twice")
            issuers[issuer.url] = issuer
    return issuers


def _issuer(name: str, table: Table, tenants: dict[str, Tenant], folder: Path) -> Issuer:
    usual = Issuer(name, "", "", tenant="any")
    url = table.needed("url", "give the issuer as tokens name it")
    check_url(url, grpc=False)
    if not secure(url):
        raise InvalidArgument(f"url: {url!r:.80} does not begin with https://, and is not of this machine")
    ca_file, tenant = table.text("ca_file"), table.text("tenant")
    issuer = Issuer(
        name,
        url,
        table.needed("audience", "give the name of this gateway at the issuer"),
        _strings(table, "algorithms", usual.algorithms),
        tuple(_known_tenant(each, tenants, "tenants") for each in _strings(table, "tenants", ())),
        _known_tenant(tenant, tenants) if tenant else "",
        table.text("tenant_claim"),
        table.text("roles_claim", usual.roles_claim),
        _names(table, "role_names"),
        table.text("models_claim"),
        table.text("name_claim", usual.name_claim),
        table.number("leeway_s", usual.leeway_s),
        table.number("keys_s", usual.keys_s),
        folder / ca_file if ca_file else None,
    )
    if issuer.ca_file is not None and not issuer.ca_file.is_file():
        raise InvalidArgument(f"ca_file: {issuer.ca_file} is not a file")
    return issuer


def secure(url: str) -> bool:
    """Whether what is read from there cannot be changed on the way: https, or this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _known_tenant(name: str, tenants: dict[str, Tenant], field: str = "tenant") -> str:
    if name not in tenants:
        raise InvalidArgument(f"{field}: there is no table [tenants.{name[:80]}]{did_you_mean(name, tenants)}")
    return name


def _strings(table: Table, key: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    value = table.take(key)
    if value is None:
        return usual
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidArgument(f"{key}: {value!r:.80} is not a list of strings", field=key)
    return tuple(value)


def _names(table: Table, key: str) -> dict[str, str]:
    values = table.mapping(key)
    for name, value in values.items():
        if not isinstance(value, str):
            raise InvalidArgument(f"{key}.{name[:80]}: {value!r:.80} is not one of {', '.join(ROLES)}", field=key)
    return values


def _whole(table: Table, key: str, usual: int) -> int:
    value = table.integer(key, usual)
    return usual if value is None else value


@contextmanager
def _table(values: object) -> Iterator[Table]:
    if not isinstance(values, dict):
        raise InvalidArgument(f"{values!r:.80} is not a table")
    table = Table(values)
    yield table
    table.finish()


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Puts a place before the messages of what is wrong there."""
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(f"{place}{error}", field=error.field) from None
