"""Publishing to a real bucket (SeaweedFS), and verifying from a real web server."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ouzel.buckets import StorageRefused
from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, OuzelError
from ouzel.ledger import Ledger, open_ledger, open_storage, verify
from ouzel.ledger.published.storage import Conflict, Storage
from support import ledgers
from support.ledgers import Place
from support.seaweed import Seaweed

URL = "s3://audit/logs/worker-1"


@pytest.fixture(scope="module")
def bucket(seaweed: Seaweed) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in seaweed.variables.items():
            patched.setenv(name, value)
        seaweed.make("audit")
        yield seaweed.url


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "tiles")
    request.getfixturevalue("bucket")
    return open_storage(f"s3://audit/{tmp_path.name}")


def test_both_storages_keep_what_they_promise(storage: Storage) -> None:
    with storage.locked(time.monotonic() + 10):
        assert storage.read("tile/0/000") is None
        assert storage.paths() == []
        storage.create("tile/0/000.p/3", b"abc")
        storage.create("tile/0/000.p/3", b"abc")
        with pytest.raises(DataLoss, match="other content"):
            storage.create("tile/0/000.p/3", b"abd")
        storage.create("tile/0/x001/000", b"def")
        storage.swap(None, b"one")
        with pytest.raises(Conflict):
            storage.swap(None, b"two")
        storage.swap(b"one", b"two")
        with pytest.raises(Conflict):
            storage.swap(b"one", b"three")
        assert storage.read("checkpoint") == b"two"
        assert sorted(storage.paths() or []) == ["checkpoint", "tile/0/000.p/3", "tile/0/x001/000"]
        storage.delete("tile/0/000.p")
        storage.delete("tile/0/x001/000")
        storage.delete("tile/0/x001/001")
        assert storage.paths() == ["checkpoint"]


def test_of_many_that_replace_a_checkpoint_one_succeeds(bucket: str) -> None:
    storage = open_storage("s3://audit/race")
    storage.swap(None, b"start")

    def swap(n: int) -> bool:
        try:
            storage.swap(b"start", f"{n}".encode())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(swap, range(8))) == 1


def test_a_log_in_a_bucket(bucket: str, sqlite_place: Place) -> None:
    options = sqlite_place.options(tiles=URL)
    ledger, second = open_ledger(options), open_ledger(options)  # there is no lock between them

    def append(each: Ledger, n: int) -> str:
        receipt = each.append("audit", {"n": n})
        ledgers.proof(text := each.prove(receipt), receipt.entry, str(ledger.key))
        return text

    with ThreadPoolExecutor(8) as pool:
        proofs = list(pool.map(lambda n: append((ledger, second)[n % 2], n), range(60)))
    assert len({text.split("\n")[1] for text in proofs}) == 60
    for n in range(300):
        second.append("audit", {"n": n})
    second.publish()
    assert sqlite_place.folder.joinpath("ledger.db").exists()
    result = verify(open_storage(URL), ledger.key)
    assert (result.problems, len(result.leaves)) == ((), 360)
    ledger.close()
    second.close()
    key = sqlite_place.folder / "key"
    other = sqlite_place.options(tiles=URL, database=sqlite_place.folder / "other.db", key=key)
    with pytest.raises(DataLoss, match="has 360 entries, the ledger's database 0"):
        open_ledger(other)


def test_a_bucket_that_cannot_be_used_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in (lambda s: s.create("tile/0/000", b"x"), lambda s: s.read("checkpoint"), lambda s: s.swap(None, b"x")):
        with pytest.raises(
            StorageRefused, match="s3://no-such-bucket/x cannot be used: there is no bucket 'no-such-bucket'"
        ):
            call(open_storage("s3://no-such-bucket/x"))
    with pytest.raises(InvalidArgument, match="names no bucket"):
        open_storage("s3://")
    with pytest.raises(InvalidArgument, match="gs://"):
        open_storage("gs://bucket")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-key")
        for call in (lambda s: s.paths(), lambda s: s.read("checkpoint"), lambda s: s.swap(None, b"x")):
            with pytest.raises(StorageRefused, match=r"are refused for the bucket .*\(403 SignatureDoesNotMatch\)"):
                call(open_storage(URL))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_log_is_verified_over_http(sqlite_place: Place) -> None:
    ledger = sqlite_place.open()
    for n in range(300):
        ledger.append("audit", {"n": n})
    ledger.publish()
    ledger.close()
    with served(sqlite_place.tiles) as url:
        website = open_storage(url + "/")
        assert verify(website, ledger.key).ok
        path = sqlite_place.tiles / "tile/entries/000"
        path.write_bytes(path.read_bytes().replace(b'"n":9}', b'"n":8}'))
        assert [each.index for each in verify(website, ledger.key).problems] == [9]
        for refused in (
            lambda: website.create("x", b""),
            lambda: website.swap(None, b""),
            lambda: website.delete("x"),
            lambda: website.locked(0.0),
        ):
            with pytest.raises(FailedPrecondition, match="read only"):
                refused()
    with pytest.raises(OuzelError, match="does not answer"):
        verify(website, ledger.key)
