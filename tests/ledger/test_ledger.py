"""The log in both databases: what is acknowledged is there, once, in place, and provable."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ouzel.databases import sqlite
from ouzel.errors import (
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    TooLarge,
    Unavailable,
)
from ouzel.ledger import (
    Entry,
    Ledger,
    LedgerOptions,
    open_ledger,
    open_storage,
    replay,
    salted_hash,
    verify,
    verify_proof,
)
from ouzel.ledger.recorder import Event, Recorder
from ouzel.ledger.schema import LEDGER
from ouzel.worker.store.open import open_store
from support import ledgers
from support.ledgers import IMAGE, ORIGIN, Place, sound

PATIENCE = 120  # s for other processes


def fill(ledger: Ledger, count: int, start: int = 0) -> None:
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda i: ledger.append("audit", {"n": i}, images=[IMAGE]), range(start, start + count)))


def test_an_entry_is_proven_to_a_verifier_that_knows_the_specifications_only(
    place: Place, ledger: Ledger, tmp_path: Path
) -> None:
    vkey = str(ledger.key)
    receipts = [
        ledger.append("audit", {"verdict": "SHORTCUT", "n": n}, images=[IMAGE], owner="alice") for n in range(9)
    ]
    assert receipts[0].index is None
    proofs = [ledger.prove(each) for each in receipts]
    assert [ledgers.proof(text, each.entry, vkey) for text, each in zip(proofs, receipts, strict=True)] == list(
        range(9)
    )
    fill(ledger, 700)
    for receipt in (receipts[4], ledger.append("gate", {"passed": False})):
        text = ledger.prove(receipt)
        place_of = ledgers.proof(text, receipt.entry, vkey)
        assert ledger.prove(place_of) == text
        assert verify_proof(text, receipt.entry, ledger.key)[0].index == place_of
        with pytest.raises(AssertionError):
            ledgers.proof(text, receipt.entry.replace(b"audit", b"adiut").replace(b"gate", b"gait"), vkey)
    note = (place.tiles / "checkpoint").read_bytes()
    assert ledgers.checkpoint(note.decode(), vkey)[0] == 710
    assert (place.tiles / "vkey").read_text() == vkey + "\n"
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is missing")
    assert ledgers.openssl(note, vkey, tmp_path)
    assert not ledgers.openssl(note.replace(b"\n710\n", b"\n711\n"), vkey, tmp_path)


def test_entries_hold_no_guessable_hash(ledger: Ledger, place: Place) -> None:
    receipt = ledger.append(
        "explanation", {"model": "m"}, images=[IMAGE], owner="alice", salted={"request": ["r1", "r2"]}
    )
    entry = json.loads(receipt.entry)
    assert set(entry) == {"facts", "kind", "salted", "time", "version"}
    assert entry["salted"]["images"] == [salted_hash(receipt.salt, "images", IMAGE)]
    assert entry["salted"]["owner"] == [salted_hash(receipt.salt, "owner", "alice")]
    assert len(entry["salted"]["request"]) == 2
    assert entry["salted"]["owner"] != [salted_hash(receipt.salt, "images", "alice")]
    assert Entry.parse(receipt.entry).encode() == receipt.entry
    other = ledger.append("explanation", {"model": "m"}, images=[IMAGE], owner="alice")
    assert json.loads(other.entry)["salted"]["images"] != entry["salted"]["images"]
    ledger.publish()
    for path in place.tiles.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for secret in (IMAGE.encode(), b"alice", receipt.salt, receipt.salt.hex().encode()):
            assert secret not in content


def test_forgetting_leaves_the_entry_and_takes_the_guess(ledger: Ledger, place: Place) -> None:
    receipt = ledger.append("explanation", {"model": "m"}, images=[IMAGE], key="k")
    ledger.prove(receipt)
    found = replay(receipt.entry, ledger.entry(0).salt, b"a photograph")
    assert (found.kind, found.image, found.position, found.facts) == ("explanation", IMAGE, 0, {"model": "m"})
    with pytest.raises(DataLoss, match="not one that the entry is about"):
        replay(receipt.entry, receipt.salt, b"another photograph")
    ledger.forget(0)
    assert ledger.entry(0).salt is None
    with pytest.raises(FailedPrecondition, match="deleted"):
        replay(receipt.entry, ledger.entry(0).salt, b"a photograph")
    with pytest.raises(AlreadyExists, match="salt"):
        ledger.append("explanation", {"model": "m"}, images=[IMAGE], key="k")
    with pytest.raises(NotFound):
        ledger.forget(99)
    ledgers.proof(ledger.prove(receipt), receipt.entry, str(ledger.key))
    ledger.publish()
    assert sound(place, ledger) == 2
    assert json.loads(ledger.entry(1).body or b"")["facts"] == {"entry": 0}
    for path in place.folder.glob("ledger.db*"):
        assert receipt.salt not in path.read_bytes() or path.suffix == ".db-wal"


def test_the_same_key_is_the_same_entry(ledger: Ledger, place: Place) -> None:
    facts = {"n": 1}
    first = ledger.append("audit", facts, images=[IMAGE], key="job:1")
    assert ledger.append("audit", facts, images=[IMAGE], key="job:1") == first
    ledger.publish()
    again = ledger.append("audit", facts, images=[IMAGE], key="job:1")
    assert (again.index, again.entry, again.salt) == (0, first.entry, first.salt)
    for kind, other, images in (("gate", facts, [IMAGE]), ("audit", {"n": 2}, [IMAGE]), ("audit", facts, [])):
        with pytest.raises(AlreadyExists, match="job:1"):
            ledger.append(kind, other, images=images, key="job:1")
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: ledger.append("audit", facts, key="job:2"), range(50)))
    assert len({each.number for each in made}) == len({each.leaf for each in made}) == 1
    ledger.publish()
    assert sound(place, ledger) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kind": "audits"}, "kind"),
        ({"facts": {"a": float("nan")}}, "facts"),
        ({"facts": {"a": 2**60}}, "facts"),
        ({"facts": {"a": object()}}, "facts"),
        ({"facts": [1]}, "facts"),
        ({"images": ["abc"]}, "images"),
        ({"images": [IMAGE.upper()]}, "images"),
        ({"salted": {"owner": "x"}}, "salted"),
        ({"salted": {"A b": "x"}}, "salted"),
        ({"salted": {"a": [1]}}, "salted.a"),
        ({"key": "k" * 201}, "key"),
        ({"key": "\0"}, "key"),
    ],
)
def test_bad_arguments_are_named(sqlite_place: Place, arguments: dict[str, Any], problem: str) -> None:
    ledger = sqlite_place.open()
    with pytest.raises(InvalidArgument, match=problem) as error:
        ledger.append(**{"kind": "audit", "facts": {}} | arguments)
    assert error.value.field == problem
    assert ledger.publish()[0].size == 0
    ledger.close()


def test_entries_are_as_long_as_a_bundle_can_hold(ledger: Ledger) -> None:
    short = len(ledger.append("audit", {"a": ""}).entry)
    longest = ledger.append("audit", {"a": "x" * (65_535 - short)})
    assert len(longest.entry) == 65_535
    ledgers.proof(ledger.prove(longest), longest.entry, str(ledger.key))
    with pytest.raises(TooLarge, match="65536 bytes; at most 65535"):
        ledger.append("audit", {"a": "x" * (65_536 - short)})


_APPEND = """
import sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from support.ledgers import Place
ledger = Place(sys.argv[1], Path(sys.argv[2])).open(publish_every=0.05)
def one(n):
    receipt = ledger.append("audit", {"who": sys.argv[3], "n": n})
    ledger.prove(receipt, timeout=60) if n % 25 == 0 else None
with ThreadPoolExecutor(25) as pool:
    list(pool.map(one, range(200)))
ledger.close()
"""


def test_a_hundred_writers_leave_no_gap_and_no_duplicate(place: Place) -> None:
    """Three other processes with 25 threads each, and 25 threads here; some publish meanwhile."""
    ledger = place.open(publish_every=0.05)
    command = [sys.executable, "-c", _APPEND, place.url, str(place.folder)]
    others = [subprocess.Popen([*command, str(n)], cwd=Path(__file__).parents[1]) for n in range(3)]
    try:
        with ThreadPoolExecutor(25) as pool:
            list(pool.map(lambda n: ledger.append("audit", {"who": "me", "n": n}), range(200)))
        assert [each.wait(PATIENCE) for each in others] == [0, 0, 0]
    finally:
        for each in others:
            each.kill()
            each.wait()
    ledger.publish()
    assert sound(place, ledger) == 800
    rows = ledger.entries(limit=1000)
    said = [json.loads(row.body or b"")["facts"] for row in rows]
    assert [row.index for row in rows] == list(range(800))
    assert {(each["who"], each["n"]) for each in said} == {
        (who, n) for who in ("me", "0", "1", "2") for n in range(200)
    }
    ledger.close()


def test_who_was_answered_first_comes_first(ledger: Ledger) -> None:
    receipts = []
    for n in range(20):
        with ThreadPoolExecutor(4) as pool:
            receipts.append(
                [each.number for each in pool.map(lambda _, n=n: ledger.append("audit", {"n": n}), range(4))]
            )
    ledger.publish()
    said = [json.loads(row.body or b"")["facts"]["n"] for row in ledger.entries()]
    assert said == [n for n in range(20) for _ in range(4)]


def test_a_log_goes_on_where_it_ended(place: Place) -> None:
    ledger = place.open()
    fill(ledger, 300)
    saved = ledger.publish()[1]
    pending = ledger.append("audit", {"n": "late"})
    ledger.close()
    for _ in range(2):
        ledger = place.open()
        assert sound(place, ledger) == 301
        ledgers.proof(ledger.prove(pending), pending.entry, str(ledger.key))
        ledger.close()
    shutil.rmtree(place.tiles)  # the database is the truth
    ledger = place.open()
    assert sound(place, ledger) == 301
    assert verify(open_storage(place.tiles), ledger.key, since=saved).ok
    ledger.close()


def test_a_rolled_back_database_is_refused(sqlite_place: Place) -> None:
    place = sqlite_place
    backup = place.folder.with_name("backup")
    ledger = place.open()
    fill(ledger, 5)
    ledger.close()
    shutil.copytree(place.folder, backup)
    ledger = place.open()
    fill(ledger, 5, 5)
    ledger.publish()
    ledger.close()
    for path in place.folder.glob("ledger.db*"):
        path.unlink()
    for path in backup.glob("ledger.db*"):
        shutil.copy(path, place.folder)
    before = {path: path.read_bytes() for path in place.tiles.rglob("*") if path.is_file()}
    with pytest.raises(DataLoss, match=r"has 10 entries, the ledger's database 5: the database was rolled back"):
        place.open()
    behind = open_ledger(place.options(), publish=False)
    fill(behind, 5, 100)  # as many as were lost, and others
    for _ in range(2):
        with pytest.raises(DataLoss, match="rolled back"):
            behind.publish()
    with pytest.raises(DataLoss, match="rolled back"):
        behind.append("audit", {})
    with pytest.raises(DataLoss, match="rolled back"):
        behind.check()
    behind.close()
    assert {path: path.read_bytes() for path in place.tiles.rglob("*") if path.is_file()} == before


def test_of_two_databases_over_one_folder_the_second_is_refused(new_place: Callable[[], Place]) -> None:
    first, second = new_place(), new_place()
    one = first.open()
    second.folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(first.folder / "key", second.folder / "key")
    other = open_ledger(second.options(tiles=first.tiles))  # nothing is published yet
    fill(other, 3, 100)
    fill(one, 3)
    one.publish()
    with pytest.raises(DataLoss, match="rolled back"):
        other.publish()
    with pytest.raises(DataLoss, match="rolled back"):
        open_ledger(second.options(tiles=first.tiles))
    one.close()
    other.close()
    assert verify(open_storage(first.tiles), one.key).ok


def test_a_fork_is_refused(new_place: Callable[[], Place]) -> None:
    """Two databases with the same key, published apart from each other, then to one folder."""
    first, second = new_place(), new_place()
    one = first.open()
    fill(one, 3)
    one.close()
    second.folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(first.folder / "key", second.folder / "key")
    other = second.open()
    fill(other, 4)
    other.publish()
    other.close()
    one = first.open()
    one.close()
    with pytest.raises(DataLoss, match="a fork"):
        open_ledger(second.options(tiles=first.tiles))
    assert sound(first, one) == 3


def test_tiles_that_say_something_else_are_not_overwritten(place: Place, ledger: Ledger) -> None:
    """Left behind by another database, whose checkpoint nobody has seen."""
    ledger.append("audit", {})
    (place.tiles / "tile/0/000.p").mkdir(parents=True)
    (place.tiles / "tile/0/000.p/1").write_bytes(bytes(32))
    with pytest.raises(DataLoss, match="other content"):
        ledger.publish()
    assert ledgers.checkpoint((place.tiles / "checkpoint").read_text(), str(ledger.key))[0] == 0


def test_the_key_is_its_owners_alone(place: Place, new_place: Callable[[], Place]) -> None:
    place.open().close()
    key = place.folder / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(FailedPrecondition, match=r"mode 0640.*chmod 600"):
        place.open()
    key.chmod(0o600)
    with pytest.raises(FailedPrecondition, match="belongs to"):
        open_ledger(LedgerOptions(place.url, place.tiles, key, "ouzel.example/other"))
    other = new_place()
    other.open().close()
    content = key.read_bytes()
    shutil.copy(other.folder / "key", key)
    with pytest.raises(FailedPrecondition, match="belongs to"):
        place.open()
    key.write_text("no key")
    with pytest.raises(InvalidArgument, match="not a private key"):
        place.open()
    key.unlink()
    with pytest.raises(FailedPrecondition, match=f"is missing, the private key of {ORIGIN}"):
        place.open()
    assert not key.exists()
    key.write_bytes(content)
    key.chmod(0o600)
    place.open().close()


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\nb", "x" * 201])
def test_origins_are_names(sqlite_place: Place, origin: str) -> None:
    with pytest.raises(InvalidArgument, match="origin"):
        open_ledger(LedgerOptions(sqlite_place.url, sqlite_place.tiles, sqlite_place.folder / "key", origin))


def test_pruning_deletes_bodies_and_keeps_proofs(place: Place) -> None:
    ledger = place.open()
    old = ledger.append("audit", {"n": "old"}, images=[IMAGE])
    fill(ledger, 600)
    ledger.publish()
    assert ledger.prune(timedelta(days=1)) == 0
    assert ledger.prune(timedelta(0)) == 512
    assert sound(place, ledger) == 602
    record = ledger.entry(0)
    assert (record.body, record.salt, record.leaf) == (None, None, old.leaf)
    assert ledger.entry(512).body is not None
    ledgers.proof(ledger.prove(old), old.entry, str(ledger.key))
    result = verify(open_storage(place.tiles), ledger.key)
    assert (result.pruned, result.ok) == (512, True)
    assert not (place.tiles / "tile/entries/001").exists()
    assert ledger.prune(timedelta(0)) == 512  # again: nothing new, and no further entry
    assert ledger.size() == 602
    fill(ledger, 400)
    ledger.publish()
    assert ledger.prune(timedelta(0)) == 768
    assert sound(place, ledger) == 1003
    ledger.close()
    shutil.rmtree(place.tiles)
    place.open().close()
    result = verify(open_storage(place.tiles), ledger.key)
    assert (result.pruned, result.ok) == (768, True)
    (place.tiles / "tile/entries/003").unlink(missing_ok=True)
    shutil.rmtree(place.tiles / "tile/entries/003.p", ignore_errors=True)
    problems = verify(open_storage(place.tiles), ledger.key).problems  # what said that others are pruned is gone too
    assert [each.index for each in problems] == [0, 256, 512, 768]
    assert all("no entry says" in each.what for each in problems)


def test_jobs_and_ledger_share_a_server_and_not_a_file(new_place: Callable[[], Place]) -> None:
    place = new_place()
    path = place.url.removeprefix("sqlite://")
    store = open_store(place.url)
    if place.url.startswith("sqlite"):
        with pytest.raises(DataLoss, match="is not the ledger's database"):
            place.open()
    else:
        ledger = place.open()
        receipt = ledger.append("audit", {})
        ledgers.proof(ledger.prove(receipt), receipt.entry, str(ledger.key))
        open_store(place.url).close()
        ledger.close()
    store.close()
    if Path(path).exists():
        own = new_place()
        own.open().close()
        with pytest.raises(DataLoss, match="is not the job store"):
            open_store(own.url)


def test_secrets_are_not_shown(ledger: Ledger) -> None:
    receipt = ledger.append("audit", {}, owner="alice")
    ledger.publish()
    for shown in (repr(receipt), repr(ledger.entry(0))):
        assert repr(receipt.salt) not in shown
        assert "salt=" not in shown
    assert [each.index for each in ledger.search("owner", "alice")] == [0]
    assert list(ledger.search("owner", "bob")) == []


def test_waiting_for_another_publisher_ends(place: Place, ledger: Ledger) -> None:
    receipt = ledger.append("audit", {})
    with open_storage(place.tiles).locked(0.0), pytest.raises(DeadlineExceeded, match="another process"):
        ledger.prove(receipt, timeout=0.05)
    ledgers.proof(ledger.prove(receipt), receipt.entry, str(ledger.key))


def test_entries_are_published_by_themselves(place: Place) -> None:
    ledger = place.open(publish_every=0.01)
    ledger.append("audit", {})
    waiting = threading.Event()
    for _ in range(2000):
        if "\n1\n" in (place.tiles / "checkpoint").read_text():
            break
        waiting.wait(0.01)
    assert sound(place, ledger) == 1
    ledger.close()
    with pytest.raises(Unavailable, match="the ledger's database"):
        ledger.append("audit", {})


def test_a_stranger_cannot_take_over_the_files(place: Place, ledger: Ledger) -> None:
    ledger.append("audit", {})
    from ouzel.ledger.tlog.note import Signer

    forged = Signer(ORIGIN, Ed25519PrivateKey.generate()).sign(
        f"{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    )
    (place.tiles / "checkpoint").write_bytes(forged.encode())
    with pytest.raises(DataLoss, match="not of this log"):
        ledger.publish()


def test_a_database_that_another_process_holds_is_waited_for_once(
    sqlite_place: Place, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not once for each of those who wait."""
    monkeypatch.setattr(sqlite, "_BUSY", 200)
    opened = sqlite.SqliteDatabase(Path(sqlite_place.url.removeprefix("sqlite://")), LEDGER)
    tries: list[int] = []
    commit = opened._commit

    def counted(group: list[Any]) -> Any:
        tries.append(len(group))
        return commit(group)

    monkeypatch.setattr(opened, "_commit", counted)
    other = sqlite.connect(Path(sqlite_place.url.removeprefix("sqlite://")))
    other.execute("BEGIN IMMEDIATE")
    asked = [opened.submit(lambda c: c.one("SELECT 1")) for _ in range(20)]
    for each in asked:
        with pytest.raises(Unavailable, match="does not answer"):
            each.result()
    assert sum(tries) == 20
    other.execute("ROLLBACK")
    other.close()
    opened.close()


def test_what_no_entry_can_hold_is_not_asked_for_again(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "log")
    for value in (float("nan"), "x" * 70_000):
        with pytest.raises(FailedPrecondition, match="an entry cannot hold it"):
            recorder.append(Event("audit", {"probability": value}))
    recorder.close()


def test_an_entry_that_says_a_name_twice_is_none() -> None:
    """Each reader would take it for something else."""
    entry = Entry("audit", "2026-01-01T00:00:00.000000Z", {"verdict": "rests_on_object"}).encode()
    assert Entry.parse(entry).facts == {"verdict": "rests_on_object"}
    with pytest.raises(DataLoss, match="not an entry"):
        Entry.parse(entry.replace(b'{"verdict"', b'{"verdict":"disagrees","verdict"'))
