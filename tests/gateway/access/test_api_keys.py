from __future__ import annotations

import json
import re
import sqlite3
import stat
import string
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from ouzel.cli.keys import _used
from ouzel.cli.keys import keys as command
from ouzel.databases.database import Database
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, Unauthenticated, Unavailable
from ouzel.gateway.access import key_text
from ouzel.gateway.access.api_keys import ApiKey, ApiKeys, Scope
from ouzel.gateway.access.key_schema import open_keys
from ouzel.gateway.access.known_keys import KnownKeys
from ouzel.gateway.access.polling import Polling
from ouzel.ledger import open_ledger
from ouzel.ledger.settings import settings
from ouzel.serving import ServingOptions, saved_options, state_folder
from ouzel.serving.door_options import DoorOptions

SCOPE = Scope("acme", "robot", frozenset({"explain", "jobs"}), ("bird*",))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_keys(url)
    yield opened
    opened.close()


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_key_has_a_form_that_scanners_find_and_a_checksum() -> None:
    texts = {key_text.new_key() for _ in range(200)}
    assert len(texts) == 200
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    for text in texts:
        assert re.fullmatch("ouzel_[0-9A-Za-z]{48}", text)
        number = 0
        for letter in text[-6:]:
            number = number * 62 + alphabet.index(letter)
        assert number == zlib.crc32(text[:-6].encode())
        assert key_text.key_id(text) == text[6:16]
    assert 62**32 > 2**160


@pytest.mark.parametrize("position", range(6, 54))
def test_a_typing_error_is_noticed(position: int) -> None:
    text = key_text.new_key()
    other = "a" if text[position] != "a" else "b"
    assert key_text.key_id(text[:position] + other + text[position + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "ouzel_", "ouzel_" + "a" * 48, "sk_" + "a" * 51, "ouzel_" + "é" * 48, "x" * 10**6]
)
def test_what_is_no_key_is_none(text: str) -> None:
    assert key_text.key_id(text) is None


def test_a_key_is_found_by_its_text_alone(database: Database) -> None:
    text, made = ApiKeys(database).create(SCOPE)
    known = KnownKeys(database)
    found = known.find(text)
    assert (found.tenant, found.name, found.roles, found.models) == (
        "acme",
        "robot",
        frozenset({"explain", "jobs"}),
        ("bird*",),
    )
    with pytest.raises(Unauthenticated, match="not known"):
        known.find(key_text.new_key())
    stolen = text[:16] + "".join(reversed(text[16:48]))  # the name of a key, and another secret
    with pytest.raises(Unauthenticated, match="not known"):
        known.find(stolen + key_text._checksum(stolen))
    assert text not in repr(made)


def test_the_file_holds_no_key_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys.db"
    database = open_keys(path)
    text, _ = ApiKeys(database).create(SCOPE)
    files = list(path.parent.iterdir())
    assert len(files) > 1  # the write-ahead log too
    assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    database.close()
    content = path.read_bytes()
    assert text[16:48].encode() not in content
    path.chmod(0o644)
    open_keys(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_change_by_another_process_is_heard_without_a_restart(url: str, database: Database) -> None:
    other = open_keys(url)  # a connection of its own, as another process has
    try:
        known = KnownKeys(database)
        polling = Polling([known.refresh], 0.05)
        polling.start()
        try:
            text, made = ApiKeys(other).create(SCOPE)
            until(lambda: _works(known, text))
            ApiKeys(other).revoke(made.id)
            until(lambda: not _works(known, text))
            with pytest.raises(Unauthenticated, match="revoked"):
                known.find(text)
        finally:
            polling.close()
    finally:
        other.close()


def _works(known: KnownKeys, text: str) -> bool:
    try:
        known.find(text)
    except Unauthenticated:
        return False
    return True


def test_a_key_expires(database: Database) -> None:
    text, made = ApiKeys(database).create(SCOPE, timedelta(hours=1))
    assert made.expires - made.created == pytest.approx(3600)
    clock = Clock(made.expires - 0.001)
    known = KnownKeys(database, clock=clock)
    known.find(text)
    clock.now = made.expires
    with pytest.raises(Unauthenticated, match="expired"):
        known.find(text)


def test_an_old_key_works_beside_the_new_one_for_the_overlap(database: Database) -> None:
    keys = ApiKeys(database)
    text, made = keys.create(SCOPE)
    fresh, new, old = keys.rotate(made.id, timedelta(hours=2))
    assert (new.tenant, new.name, new.roles, new.models) == (made.tenant, made.name, made.roles, made.models)
    assert old.expires - new.created == pytest.approx(7200)
    clock = Clock(old.expires - 1)
    known = KnownKeys(database, clock=clock)
    known.find(text)
    known.find(fresh)
    clock.now = old.expires + 1
    with pytest.raises(Unauthenticated):
        known.find(text)
    known.find(fresh)
    with pytest.raises(FailedPrecondition, match=new.id):
        keys.rotate(made.id, timedelta(0))


def test_an_overlap_does_not_make_a_key_live_longer(database: Database) -> None:
    keys = ApiKeys(database)
    _, made = keys.create(SCOPE, timedelta(minutes=5))
    assert keys.rotate(made.id, timedelta(days=1))[2].expires == made.expires


def test_a_revoked_key_is_not_rotated_and_stays_revoked(database: Database) -> None:
    keys = ApiKeys(database)
    _, made = keys.create(SCOPE)
    first = keys.revoke(made.id)
    assert keys.revoke(made.id).revoked == first.revoked
    with pytest.raises(FailedPrecondition, match="revoked"):
        keys.rotate(made.id, timedelta(0))
    with pytest.raises(NotFound):
        keys.revoke("nobody")


def test_two_rotations_at_once_make_one_key(database: Database) -> None:
    keys = ApiKeys(database)
    _, made = keys.create(SCOPE)
    outcomes: list[str] = []

    def rotate() -> None:
        try:
            keys.rotate(made.id, timedelta(hours=1))
            outcomes.append("new")
        except FailedPrecondition:
            outcomes.append("refused")

    threads = [threading.Thread(target=rotate) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(outcomes) == ["new"] + ["refused"] * 7
    assert len(keys.all()) == 2


def test_last_use_is_kept_to_the_hour(database: Database) -> None:
    keys = ApiKeys(database)
    text, made = keys.create(SCOPE)
    assert made.last_used is None
    clock = Clock(made.created)
    known = KnownKeys(database, clock=clock)
    for _ in range(3):
        known.find(text)
    known.write_used()
    hour = made.created // 3600 * 3600
    assert [each.last_used for each in keys.all()] == [hour]
    clock.now = hour + 3600 * 5 + 1
    known.find(text)
    known.write_used()
    assert [each.last_used for each in keys.all()] == [hour + 3600 * 5]


class Silent:
    """A database that has stopped answering."""

    def __init__(self, real: Database) -> None:
        self.real, self.silent = real, False

    def read(self, work: object) -> object:
        if self.silent:
            raise Unavailable("the database does not answer")
        return self.real.read(work)  # type: ignore[arg-type]

    def write(self, work: object) -> object:
        return self.real.write(work)  # type: ignore[arg-type]


def test_while_the_database_is_silent_known_keys_work_for_a_while_and_then_none(database: Database) -> None:
    text, _ = ApiKeys(database).create(SCOPE)
    silent, clock = Silent(database), Clock()
    known = KnownKeys(silent, stale=60, monotonic=clock)  # type: ignore[arg-type]
    silent.silent = True
    clock.now = 59
    with pytest.raises(Unavailable):
        known.refresh()
    known.find(text)
    clock.now = 61
    with pytest.raises(Unavailable):  # not Unauthenticated: a revoked key must not work, a good one not be thrown away
        known.find(text)
    silent.silent = False
    known.refresh()
    known.find(text)


def test_an_older_copy_of_the_database_is_read_anew(tmp_path: Path) -> None:
    database = open_keys(tmp_path / "keys.db")
    try:
        keys = ApiKeys(database)
        first, _ = keys.create(SCOPE)
        second, made = keys.create(SCOPE)
        known = KnownKeys(database)
        database.write(lambda c: c.run("DELETE FROM access_keys WHERE id = ?", made.id))
        database.write(lambda c: c.run("UPDATE access_changes SET number = 1"))
        known.refresh()
        known.find(first)
        with pytest.raises(Unauthenticated):
            known.find(second)
    finally:
        database.close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tenant": "a b"}, "tenant: 'a b'"),
        ({"name": ""}, "name: ''"),
        ({"roles": frozenset({"root"})}, "'root' is not one of explain, jobs, audit, admin"),
        ({"roles": frozenset()}, "roles: is empty"),
        ({"models": ()}, "models: is empty"),
        ({"models": ("a b",)}, "models: 'a b'"),
    ],
)
def test_a_wrong_scope_is_refused(values: dict[str, object], message: str) -> None:
    good = {"tenant": "acme", "name": "robot", "roles": frozenset({"explain"}), "models": ("*",)}
    with pytest.raises(InvalidArgument, match=message):
        Scope(**(good | values))  # type: ignore[arg-type]


def run(*arguments: str, **options: object) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False, **options)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_makes_lists_rotates_and_revokes(tmp_path: Path) -> None:
    place = ("--database", str(tmp_path / "keys.db"))
    made = json.loads(
        run("create", "robot", "--tenant", "acme", "--role", "jobs", "--expires", "12h", "--json", *place)
    )
    text = run("create", "person", "--tenant", "acme", *place).strip()
    assert key_text.key_id(text)  # on stdout there is the key and nothing else
    rotated = json.loads(run("rotate", made["id"], "--overlap", "30m", "--json", *place))
    assert rotated["replaces"]["replaced_by"] == rotated["id"]
    assert "is revoked" in run("revoke", rotated["id"], *place)
    listed = {each["id"]: each for each in json.loads(run("list", "--json", *place))}
    assert {each["state"] for each in listed.values()} == {"active", "revoked"}
    assert listed[made["id"]]["roles"] == ["jobs"]
    table = run("list", *place)
    assert "person" in table
    for secret in (made["key"], text, rotated["key"]):
        assert secret not in table + json.dumps(listed, default=str)
    with sqlite3.connect(tmp_path / "keys.db") as raw:
        assert raw.execute("SELECT count(*) FROM access_keys").fetchone() == (3,)


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    place = ("--database", str(tmp_path / "keys.db"))
    for arguments, message in (
        (("create", "robot", "--tenant", "acme", "--role", "root"), "Error: roles: 'root' is not one of"),
        (("create", "robot", "--tenant", "acme", "--expires", "soon"), "'soon' is not a number of minutes"),
        (("create", "robot", "--tenant", "acme", "--expires", "9999d"), "9999 days"),
        (("revoke", "nobody"), "there is no key 'nobody'"),
    ):
        result = CliRunner().invoke(command, [*arguments, *place])
        assert result.exit_code != 0
        assert message in " ".join(result.stderr.split())


def test_no_key_is_made_for_a_tenant_that_no_gateway_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = ("--database", str(tmp_path / "keys.db"))
    state, tenants = tmp_path / "state", tmp_path / "tenants.toml"
    tenants.write_text("[tenants.acme]\n[tenants.other]\n")
    monkeypatch.setenv("OUZEL_STATE", str(state))
    command_line = ["create", "robot", "--tenant", "amce", *place]
    result = CliRunner().invoke(command, command_line)
    assert (result.exit_code, "No tenants.toml is known here" in result.stderr) == (0, True)
    state_folder.prepare(state)
    saved_options.write(ServingOptions(store=tmp_path, state=state, gateway=True, door=DoorOptions(tenants=tenants)))
    for more in ([], ["--tenants", str(tenants)]):
        result = CliRunner().invoke(command, [*command_line, *more])
        assert result.exit_code == 1
        said = " ".join(result.stderr.split())
        assert f"tenant: 'amce' is not in {tenants}, which has acme, other; add a table [tenants.amce] first" in said
        result = CliRunner().invoke(command, ["create", "robot", "--tenant", "acme", *place, *more])
        assert (result.exit_code, result.stderr.count("tenants.toml")) == (0, 0)
    assert len(json.loads(run("list", "--json", *place))) == 3


def test_what_is_not_on_record_is_not_changed(database: Database) -> None:
    heard: list[tuple[str, str, str]] = []
    broken = False

    def changing(change: str, key: ApiKey, replaced: str) -> None:
        if broken:
            raise Unavailable("the log is silent")
        heard.append((change, key.id, replaced))

    keys = ApiKeys(database, changing)
    _, key = keys.create(SCOPE)
    broken, before = True, keys.all()
    for change in (
        lambda: keys.create(SCOPE),
        lambda: keys.rotate(key.id, timedelta(0)),
        lambda: keys.revoke(key.id),
    ):
        with pytest.raises(Unavailable, match="the log is silent"):
            change()
        assert keys.all() == before
    broken = False
    _, new, _ = keys.rotate(key.id, timedelta(0))
    keys.revoke(new.id)
    keys.revoke(new.id)  # changes nothing
    assert heard == [("create", key.id, ""), ("rotate", new.id, key.id), ("revoke", new.id, "")]


def test_the_commands_are_on_record_where_there_is_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUZEL_STATE", str(tmp_path))
    options = settings(tmp_path / "ledger")
    open_ledger(options).close()
    made = json.loads(run("create", "robot", "--tenant", "acme", "--role", "jobs", "--model", "b*", "--json"))
    rotated = json.loads(run("rotate", made["id"], "--json"))
    run("revoke", rotated["id"])
    log = open_ledger(options)
    try:
        entries = log.entries(0, log.size(), kind="key")
        same = {"roles": ["jobs"], "models": ["b*"]}
        assert [json.loads(each.body or b"")["facts"] for each in entries] == [
            {"change": "create", "key": made["id"], **same},
            {"change": "rotate", "key": rotated["id"], "replaces": made["id"], **same},
            {"change": "revoke", "key": rotated["id"], **same},
        ]
        assert len(list(log.search("name", "robot"))) == len(list(log.search("tenant", "acme"))) == 3
        assert not any(text in (each.body or b"") for each in entries for text in (b"robot", b"acme"))
    finally:
        log.close()
    (tmp_path / "ledger" / "ledger.json").write_text("{}")  # a log of which nobody knows where it is
    before = run("list", "--json")
    result = CliRunner().invoke(command, ["create", "robot", "--tenant", "acme"])
    assert (result.exit_code, "ouzel_" in result.stdout) == (1, False)
    assert "could not be recorded, so it is not done" in result.stderr
    assert run("list", "--json") == before


@pytest.mark.parametrize(
    ("hours", "shown"), [(0.07, "< 1 h"), (0.99, "< 1 h"), (1.5, "< 2 h"), (23.9, "< 24 h"), (50, "2 d")]
)
def test_the_last_use_is_shown_as_exactly_as_it_is_known(hours: float, shown: str) -> None:
    """A key of four minutes was not used 57 minutes ago, although the hour began then."""
    hour = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert _used(hour, hour + timedelta(hours=hours)) == shown
    assert _used(None) == ""
