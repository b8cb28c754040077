"""Whatever is changed in the published files or in the database is found, and the first bad entry is named."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouzel.errors import DataLoss
from ouzel.ledger import Checkpoint, Ledger, Verification, VerifierKey, compare, open_database, open_storage, verify
from ouzel.ledger.keys import read_key
from ouzel.ledger.tlog.merkle import leaf_hash, root_hash
from ouzel.ledger.tlog.tiles import TileName, bundle, tiles_of, unbundle
from support.ledgers import IMAGE, ORIGIN, Place

SIZE = 520
STEPS = (100, 300, SIZE)


class Files(dict[str, bytes]):
    """Fake: published files in memory, so that thousands of forgeries can be tried."""

    def read(self, path: str) -> bytes | None:
        return self.get(path)

    def paths(self) -> list[str]:
        return list(self)


def published(folder: Path) -> Files:
    storage = open_storage(folder)
    return Files({path: storage.read(path) or b"" for path in storage.paths() or []})


class Log:
    """A log that was published at several sizes, and the checkpoints of these."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(f"sqlite://{folder / 'ledger.db'}", folder)
        ledger = self.place.open()
        self.key: VerifierKey = ledger.key
        self.saved: list[bytes] = []
        for start, end in zip((0, *STEPS), STEPS, strict=False):
            for n in range(start, end):
                ledger.append("audit", {"n": n}, images=[IMAGE])
            self.saved.append(ledger.publish()[1])
        ledger.close()
        self.files = published(self.place.tiles)

    def verify(self, files: Files, since: bytes | None = None) -> Verification:
        return verify(files, self.key, since=since)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("log"))


def test_what_nobody_touched_is_sound(log: Log) -> None:
    assert {"tile/1/000.p/2", "tile/1/000.p/1", "tile/0/001", "tile/entries/002.p/8"} < set(log.files)
    assert "tile/0/001.p/44" not in log.files  # the full one is there
    for since in (None, *log.saved):
        result = log.verify(log.files, since)
        assert (result.problems, result.notes) == ((), ())
        assert result.checkpoint is not None
        assert result.checkpoint.size == SIZE


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_edit_of_a_byte_is_found(log: Log, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(log.files)))
    content = log.files[path]
    at = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != content[at]))
    kind = data.draw(st.sampled_from(["edit", "insert", "remove", "cut"]))
    edited = {
        "edit": content[:at] + bytes([byte]) + content[at + 1 :],
        "insert": content[:at] + bytes([byte]) + content[at:],
        "remove": content[:at] + content[at + 1 :],
        "cut": content[:at],
    }[kind]
    result = log.verify(Files({**log.files, path: edited}))
    assert not result.ok
    name = TileName.parse(path)
    if name is not None and name.level is None and kind == "edit":
        # Whose bytes were edited is the first entry that is named; an edited length shifts those behind it.
        starts = [2 * i + sum(map(len, unbundle(content)[0][:i])) for i in range(name.width + 1)]
        hit = max(i for i, start in enumerate(starts[:-1]) if start <= at)
        assert result.problems[0].index == name.number * 256 + hit


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_missing_files_and_files_in_the_place_of_others_are_found(log: Log, data: st.DataObject) -> None:
    needed = sorted({each.path for each in tiles_of(SIZE)} | {"checkpoint", "vkey"})
    gone = data.draw(st.sampled_from(needed))
    assert not log.verify(Files({path: content for path, content in log.files.items() if path != gone})).ok
    one, other = data.draw(st.lists(st.sampled_from(sorted(log.files)), min_size=2, max_size=2, unique=True))
    if log.files[one] != log.files[other]:
        assert not log.verify(Files({**log.files, one: log.files[other], other: log.files[one]})).ok
    assert not log.verify(Files({**log.files, "tile/0/more": b""})).ok


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.booleans())
def test_entries_that_changed_places_are_found(log: Log, one: int, other: int, rehashed: bool) -> None:
    if one == other:
        return
    entries, _ = unbundle(log.files["tile/entries/001"])
    entries[one], entries[other] = entries[other], entries[one]
    forged = Files({**log.files, "tile/entries/001": bundle(entries)})
    if rehashed:
        forged["tile/0/001"] = b"".join(map(leaf_hash, entries))
    result = log.verify(forged)
    assert not result.ok
    if not rehashed:
        assert result.problems[0].index == 256 + min(one, other)


def history(log: Log, entries: list[bytes]) -> Files:
    """All files of a log with these entries, signed with the log's own key: what its operator could forge."""
    signer = read_key(log.place.folder / "key", ORIGIN)
    files, leaves = Files(vkey=log.files["vkey"]), [leaf_hash(each) for each in entries]
    levels = [leaves]
    while len(levels[-1]) >= 256:
        levels.append([root_hash(levels[-1][i : i + 256]) for i in range(0, len(levels[-1]) - 255, 256)])
    for name in tiles_of(len(entries)):
        part = slice(name.number * 256, name.number * 256 + name.width)
        files[name.path] = bundle(entries[part]) if name.level is None else b"".join(levels[name.level][part])
    checkpoint = Checkpoint(ORIGIN, len(entries), root_hash(leaves))
    files["checkpoint"] = signer.sign(checkpoint.text()).encode()
    return files


def test_forks_are_found_by_whoever_kept_a_checkpoint(log: Log) -> None:
    bundles = [name.path for name in tiles_of(SIZE) if name.level is None]
    entries = [entry for path in bundles for entry in unbundle(log.files[path])[0]]
    assert history(log, entries).items() <= log.files.items()
    changed = [entry.replace(b'"n":150', b'"n":151') for entry in entries]
    forged = history(log, changed)
    assert log.verify(forged).ok  # who kept nothing cannot know: the operator signed it
    assert log.verify(forged, log.saved[0]).ok  # it is older than the forgery
    for since in log.saved[1:]:
        (problem,) = log.verify(forged, since).problems
        assert "a fork" in problem.what
    (problem,) = log.verify(history(log, entries[:400]), log.saved[2]).problems
    assert "the log went back" in problem.what
    assert not log.verify(log.files, b"no checkpoint").ok
    database = open_database(log.place.url)
    (problem,) = compare(database, log.verify(forged))
    database.close()
    assert problem.index == 150


def test_another_key_verifies_nothing(log: Log) -> None:
    other = VerifierKey(ORIGIN, bytes(32))
    (problem,) = verify(log.files, other).problems  # type: ignore[arg-type]
    assert "no signature of the key" in problem.what
    (problem,) = verify(log.files, VerifierKey("another", log.key.public)).problems  # type: ignore[arg-type]
    assert "is of the log" in problem.what


def test_entries_of_another_form_are_named(log: Log) -> None:
    for strange in (b"{}", b"[", b'{"version":2}', b'{"version":1}', b"\xff"):
        result = log.verify(history(log, [b"x", strange]))
        assert [each.index for each in result.problems] == [0, 1]


def test_a_tile_beyond_the_checkpoint_is_a_note(log: Log) -> None:
    """Left by a publisher that was killed before the checkpoint."""
    whole = history(log, [f"{n}".encode() for n in range(9)])
    entries = [entry for n in (0,) for entry in unbundle(log.files["tile/entries/000"])[0]]
    begun = history(log, entries[:7])
    assert log.verify(begun).ok
    more = history(log, entries[:9])
    result = log.verify(Files({**begun, "tile/0/000.p/9": more["tile/0/000.p/9"]}))
    assert result.ok
    assert "beyond the checkpoint" in result.notes[0]
    assert not log.verify(Files({**begun, "tile/0/000.p/9": whole["tile/0/000.p/9"]})).ok


@pytest.mark.parametrize(
    ("change", "index"),
    [
        ("UPDATE ledger_entries SET body = CAST(replace(CAST(body AS TEXT), '77', '78') AS BLOB) WHERE seq = 77", 77),
        ("UPDATE ledger_entries SET hash = zeroblob(32) WHERE seq = 300", 300),
        ("UPDATE ledger_entries SET body = NULL WHERE seq = 5", 5),
        ("UPDATE ledger_entries SET kind = 'gate' WHERE seq = 6", 6),
        ("UPDATE ledger_entries SET time = '2020' WHERE seq = 6", 6),
        ("DELETE FROM ledger_entries WHERE seq = 400", 400),
        ("DELETE FROM ledger_entries WHERE seq >= 519", 519),
        ("UPDATE ledger_entries SET seq = seq + 1000 WHERE seq = 12", 12),
        ("UPDATE ledger_meta SET value = CAST('100' AS BLOB) WHERE name = 'size'", 100),
        ("UPDATE ledger_tiles SET hashes = zeroblob(64) WHERE level = 1", None),
    ],
)
def test_changes_of_the_database_are_found(log: Log, tmp_path: Path, change: str, index: int | None) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes((log.place.folder / "ledger.db").read_bytes())
    with sqlite3.connect(path) as raw:
        assert raw.execute(change).rowcount
    raw.close()
    database = open_database(path)
    found = compare(database, log.verify(log.files))
    database.close()
    assert [each.index for each in found] == [index]


def test_a_ledger_that_lies_in_its_database_is_refused(log: Log, tmp_path: Path) -> None:
    """Its entries are no longer those that were published: it signs nothing more."""
    for name in ("ledger.db", "key"):
        (tmp_path / name).write_bytes((log.place.folder / name).read_bytes())
    (tmp_path / "key").chmod(0o600)
    with sqlite3.connect(tmp_path / "ledger.db") as raw:
        raw.execute("UPDATE ledger_tiles SET hashes = zeroblob(64) WHERE level = 1")
    raw.close()
    with pytest.raises(DataLoss, match="a fork"):
        Place(f"sqlite://{tmp_path / 'ledger.db'}", tmp_path).open(tiles=log.place.tiles)


def test_reading_while_others_publish(sqlite_place: Place) -> None:
    ledger: Ledger = sqlite_place.open()
    for n in range(30):
        ledger.append("audit", {"n": n})
        ledger.publish()
        result = verify(open_storage(sqlite_place.tiles), ledger.key)
        assert result.ok
    assert json.loads(ledger.entry(3).body or b"")["facts"] == {"n": 3}
    ledger.close()
