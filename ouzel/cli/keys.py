"""`ouzel keys`: the API keys of the gateway."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ouzel.cli._door import read_tenants
from ouzel.cli._errors import Group
from ouzel.cli._recording import appending
from ouzel.errors import InvalidArgument
from ouzel.serving import saved_options
from ouzel_client.terminal import Column, age, json_option, local_time, print_json, print_table
from ouzel_protos.local import state_dir

if TYPE_CHECKING:
    from ouzel.gateway.access.api_keys import ApiKey, ApiKeys

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_KEPT = "The key is shown this once: it is not stored."


class _Duration(click.ParamType):
    """A length of time: 30m, 12h, 90d."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6})([mhd])", value)
        if match is None:
            self.fail(f"{value!r} is not a number of minutes, hours or days, such as 30m, 12h or 90d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _database(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--database",
        envvar="OUZEL_KEYS",
        show_envvar=True,
        metavar="URL",
        help="A SQLite file, or postgresql://... [default: keys.db, in the state folder of Ouzel]",
    )(command)


_expires = click.option(
    "--expires", "valid", type=_Duration(), default="90d", show_default=True, help="How long the key works."
)


@click.group(cls=Group)
def keys() -> None:
    """Make and revoke API keys of the gateway.

    A running gateway hears of a change within a second. ID is the name of a key that `list` shows.
    """


@keys.command()
@click.argument("name")
@click.option("--tenant", required=True, help="Whose quota and models count: a table [tenants.NAME] of tenants.toml.")
@click.option("--role", "roles", multiple=True, default=("explain",), show_default=True, help="May be repeated.")
@click.option(
    "--model", "models", multiple=True, default=("*",), show_default=True, help="Pattern of names, repeatable."
)
@click.option(
    "--tenants",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="OUZEL_GATEWAY_TENANTS",
    show_envvar=True,
    help="tenants.toml, which must have the tenant. [default: that of the running services]",
)
@_expires
@_database
@json_option
def create(
    name: str,
    *,
    tenant: str,
    tenants: Path | None,
    roles: tuple[str, ...],
    models: tuple[str, ...],
    valid: timedelta,
    database: str | None,
    as_json: bool,
) -> None:
    """Make a key with a NAME for people and logs, and print it this once."""
    with _opened(database) as opened:
        from ouzel.gateway.access.api_keys import Scope
        from ouzel.gateway.access.caller import checked_roles

        scope = Scope(tenant, name, checked_roles(roles), models)
        _check_tenant(tenant, tenants or _configured())
        text, key = opened.create(scope, valid)
    _show_new(text, key, as_json)


@keys.command("list")
@_database
@json_option
def list_(database: str | None, as_json: bool) -> None:
    """List the keys, the newest first, without their secrets."""
    with _opened(database) as opened:
        found = [_values(each) for each in opened.all()]
    if as_json:
        print_json(found)
        return
    columns = [Column(title) for title in ("id", "name", "tenant", "roles", "models", "state", "expires", "used")]
    rows = [
        (
            each["id"],
            each["name"],
            each["tenant"],
            " ".join(each["roles"]),
            " ".join(each["models"]),
            each["state"],
            local_time(each["expires"]),
            _used(each["last_used"]),
        )
        for each in found
    ]
    print_table(columns, rows, "There are no keys.")


@keys.command()
@click.argument("id")
@_database
def revoke(id: str, database: str | None) -> None:
    """End a key now."""
    with _opened(database) as opened:
        key = opened.revoke(id)
    click.echo(f"the key {key.id} ({key.name} of {key.tenant}) is revoked")


@keys.command()
@click.argument("id")
@click.option("--overlap", type=_Duration(), default="1d", show_default=True, help="How long the old key still works.")
@_expires
@_database
@json_option
def rotate(id: str, overlap: timedelta, valid: timedelta, database: str | None, as_json: bool) -> None:
    """Make a key that takes the place of another, which works on for a while."""
    with _opened(database) as opened:
        text, key, old = opened.rotate(id, overlap, valid)
    _show_new(text, key, as_json, old)


def _configured() -> Path | None:
    """The file of the services that were started with `ouzel up`."""
    options = saved_options.read(state_dir())
    return None if options is None else options.door.tenants


def _check_tenant(tenant: str, path: Path | None) -> None:
    """Refuses a key that no gateway would take, as far as it is known what they read."""
    if path is None:
        click.echo(f"No tenants.toml is known here: the gateway's must have a table [tenants.{tenant}].", err=True)
        return
    known = read_tenants(path).tenants
    if tenant not in known:
        held = ", ".join(sorted(known)) or "none"
        raise InvalidArgument(
            f"tenant: {tenant!r} is not in {path}, which has {held}; add a table [tenants.{tenant}] first",
            field="tenant",
        )


@contextmanager
def _opened(url: str | None) -> Iterator[ApiKeys]:
    try:
        from ouzel.gateway.access.api_keys import ApiKeys
        from ouzel.gateway.access.key_schema import FILE, open_keys

        database = open_keys(url or state_dir() / FILE)
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error.name} is not installed; run `pip install 'ouzel[gateway]'`") from error
    try:
        with appending(None) as append:
            yield ApiKeys(database, lambda change, key, replaced: _record(append, change, key, replaced))
    finally:
        database.close()


def _record(append: Callable[..., object], change: str, key: ApiKey, replaced: str) -> None:
    facts = {"change": change, "key": key.id, "roles": sorted(key.roles), "models": list(key.models)}
    facts |= {"replaces": replaced} if replaced else {}
    append("key", facts, salted={"tenant": key.tenant, "name": key.name}, key=f"key:{change}:{key.id}")


def _show_new(text: str, key: ApiKey, as_json: bool, old: ApiKey | None = None) -> None:
    values = _values(key)
    if as_json:
        print_json({"key": text, **values} | ({"replaces": _values(old)} if old else {}))
        return
    click.echo(text)
    click.echo(_KEPT, err=True)
    facts = {"id": key.id, "tenant": key.tenant, "roles": " ".join(values["roles"]), "expires": _time(key.expires)}
    if old is not None:
        facts["replaces"] = f"{old.id}, which works until {_time(old.expires)}"
    for name, value in facts.items():
        click.echo(f"{name:<8}  {value}", err=True)


def _values(key: ApiKey) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "roles": sorted(key.roles),
        "models": list(key.models),
        "state": key.state(now.timestamp()),
        "created": _moment(key.created),
        "expires": _moment(key.expires),
        "revoked": _moment(key.revoked),
        "replaced_by": key.replaced_by,
        "last_used": _moment(key.last_used),
    }


def _used(hour: datetime | None, now: datetime | None = None) -> str:
    """When a key was last used, of which the hour is known: "< 1 h", "< 5 h", and days as others are told."""
    if hour is None:
        return ""
    passed = (now or datetime.now(UTC)) - hour
    return age(hour, now) if passed >= timedelta(days=1) else f"< {max(passed // timedelta(hours=1), 0) + 1} h"


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _time(seconds: float) -> str:
    return local_time(_moment(seconds))
