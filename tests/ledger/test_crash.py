"""Killed processes and full disks: what was acknowledged is there, and what is published stays true."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ouzel.errors import ResourceExhausted
from ouzel.ledger import Entry, VerifierKey, open_storage, verify
from support import ledgers
from support.ledgers import Place, sound

TESTS = Path(__file__).parents[1]
# Appends and publishes until it is killed; says which entries were acknowledged.
_APPEND = """
import os, sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from support.ledgers import Place
ledger = Place(sys.argv[1], Path(sys.argv[2])).open(publish_every=0.01)
def one(n):
    ledger.append("audit", {"n": n})
    os.write(1, f"{n}\n".encode())
with ThreadPoolExecutor(8) as pool:
    list(pool.map(one, range(int(sys.argv[3]), 10**6)))
"""
# Kills itself while it publishes, after so many files.
_PUBLISH = """
import os, signal, sys
from pathlib import Path
from ouzel.ledger.published import folder
from support.ledgers import Place
ledger = Place(sys.argv[1], Path(sys.argv[2])).open()
for n in range(300):
    ledger.append("audit", {"n": n})
left = int(sys.argv[3])
write = folder.Folder._write
def dying(self, path, content):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(self, path, content)
folder.Folder._write = dying
ledger.publish()
print("published", flush=True)
"""


def said(place: Place) -> list[int]:
    ledger = place.open()
    try:
        assert sound(place, ledger) == ledger.size()
        rows = [row for start in range(0, ledger.size(), 1000) for row in ledger.entries(start)]
        return [json.loads(row.body or b"")["facts"]["n"] for row in rows]
    finally:
        ledger.close()


def test_killed_writers_lose_nothing_that_was_acknowledged(place: Place) -> None:
    acknowledged: set[int] = set()
    for attempt in range(4):
        command = [sys.executable, "-c", _APPEND, place.url, str(place.folder), str(attempt * 10_000)]
        with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                acknowledged.add(int(line))
                if len(acknowledged) >= (attempt + 1) * 150:
                    writer.kill()
                    break
            acknowledged |= {int(line) for line in writer.stdout if line.endswith("\n")}
        entries = said(place)
        assert len(entries) == len(set(entries))
        assert acknowledged <= set(entries)


def test_a_publisher_that_is_killed_before_any_file(sqlite_place: Place) -> None:
    """300 entries are 6 files: two bundles, two tiles of their hashes, one of a tile, the checkpoint."""
    for files in (0, 2, 5, 6):
        place = Place(f"sqlite://{sqlite_place.folder / str(files) / 'l.db'}", sqlite_place.folder / str(files))
        place.open().close()
        command = [sys.executable, "-c", _PUBLISH, place.url, str(place.folder), str(files)]
        done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=120, check=False)
        note, vkey = ((place.tiles / name).read_text() for name in ("checkpoint", "vkey"))
        assert ledgers.checkpoint(note, vkey)[0] == (0 if files < 6 else 300)
        assert verify(open_storage(place.tiles), VerifierKey.parse(vkey)).ok
        assert said(place) == list(range(300))
        assert done.returncode == (-9 if files < 6 else 0), done.stderr


def test_a_full_disk_of_the_files_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake: writing to the folder of the published files fails as on a full disk."""
    ledger = place.open()
    kept = ledger.append("audit", {"n": 0})

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(ResourceExhausted, match="disk of the ledger's files is full"):
            ledger.prove(kept)
        more = ledger.append("audit", {"n": 1})  # the database has room
    for receipt in (kept, more):
        ledgers.proof(ledger.prove(receipt), receipt.entry, str(ledger.key))
    ledger.close()
    assert said(place) == [0, 1]
    assert not list(place.tiles.rglob(".*.*"))  # no temporary files


# RLIMIT_FSIZE stops a file from growing, as a full disk does; SQLite says SQLITE_FULL or an input/output error.
_FULL = """
import resource, signal, sys
from pathlib import Path
from ouzel.errors import ResourceExhausted, Unavailable
from support.ledgers import Place
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Place(sys.argv[1], Path(sys.argv[2])).open()
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
n = 0
try:
    while n < 2000:
        ledger.append("audit", {"n": n, "fill": "x" * 2000})
        n += 1
except (ResourceExhausted, Unavailable) as error:
    print(n, type(error).__name__, flush=True)
"""


def test_a_full_disk_of_the_database_refuses_and_loses_nothing(sqlite_place: Place) -> None:
    place = sqlite_place
    command = [sys.executable, "-c", _FULL, place.url, str(place.folder)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=120, check=False)
    count, error = done.stdout.split()
    assert error in ("ResourceExhausted", "Unavailable")
    assert int(count) > 20
    assert said(place) == list(range(int(count)))
    ledger = place.open()
    entry = ledger.entry(0).body
    assert entry is not None
    assert Entry.parse(entry).kind == "audit"
    ledger.close()
