"""Files by their content, in a folder and in a real bucket: whole or not there, and never believed without a look."""

from __future__ import annotations

import errno
import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ouzel.buckets import Prefix, located
from ouzel.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from ouzel.worker.artifacts.bucket import BucketArtifacts
from ouzel.worker.artifacts.cache import Cache
from ouzel.worker.artifacts.folder import CHUNK, FolderArtifacts
from ouzel.worker.artifacts.opening import open_artifacts
from ouzel.worker.artifacts.protocol import Artifacts, StorageAway

LARGE = 9 * CHUNK + 5  # more than one part
ALL = -3600.0  # the age of files that will be written within the hour: all are old


@dataclass
class Place:
    """A storage, and what another program sees of it."""

    place: str | Path
    cache: Path

    def open(self, cache: str = "cache") -> Artifacts:
        """As one of several machines sees it, each with a cache of its own."""
        return open_artifacts(self.place, self.cache / cache)

    def raw(self) -> dict[str, bytes]:
        """All files by their names, past Ouzel's own code."""
        if isinstance(self.place, Path):
            return {str(path): path.read_bytes() for path in self.place.rglob("*") if path.is_file()}
        prefix = Prefix(self.place, "place")
        keys = [str(each["path"]) for group in prefix.api.list(prefix.store) for each in group]
        return {key: bytes(prefix.api.get(prefix.store, key).bytes()) for key in keys}

    def write(self, name: str, content: bytes) -> None:
        """Past Ouzel's own code, as `raw`."""
        if isinstance(self.place, Path):
            Path(name).write_bytes(content)
        else:
            prefix = Prefix(self.place, "place")
            prefix.api.put(prefix.store, name, content)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    there = tmp_path / "files" if request.param == "folder" else request.getfixturevalue("bucket")
    return Place(there, tmp_path)


@pytest.fixture
def artifacts(place: Place) -> Artifacts:
    return place.open()


def nothing(_: Sequence[str]) -> set[str]:
    return set()


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(LARGE)], ids=["empty", "small", "large"])
def test_what_is_put_can_be_got(place: Place, artifacts: Artifacts, content: bytes) -> None:
    digest, size = artifacts.put(content)
    assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert artifacts.get(digest) == content
    assert artifacts.put(iter([content[:1], content[1:]])) == (digest, size)
    other = place.open("other")
    assert (other.size(digest), other.total()) == (size, size)
    for offset in (len(content), CHUNK, 1, 0):  # the first is not the beginning
        chunks = list(other.read(digest, offset))
        assert b"".join(chunks) == content[offset:]
        assert all(len(chunk) <= CHUNK for chunk in chunks)


@pytest.mark.parametrize("damage", [lambda raw: b"y" + raw[1:], lambda raw: raw[:-1], lambda raw: raw + b"x"])
@pytest.mark.parametrize("offset", [0, 50])
def test_a_damaged_file_is_not_given_out(place: Place, artifacts: Artifacts, damage: Any, offset: int) -> None:
    digest, _ = artifacts.put(b"x" * 100)
    ((name, content),) = place.raw().items()
    place.write(name, damage(content))
    with pytest.raises(DataLoss, match=digest):
        next(artifacts.read(digest, offset))
    artifacts.put(b"x" * 100)  # by whoever has it still
    assert artifacts.get(digest) == b"x" * 100


@pytest.mark.parametrize("digest", ["0" * 64, "", "../../etc/passwd", "0" * 63, "G" * 64])
def test_unknown_digests(artifacts: Artifacts, digest: str) -> None:
    with pytest.raises(NotFound):
        artifacts.get(digest)
    assert artifacts.size(digest) is None


def test_what_came_with_another_digest_is_not_kept(place: Place, artifacts: Artifacts) -> None:
    expected = hashlib.sha256(b"other").hexdigest()
    with artifacts.incoming() as incoming:
        incoming.write(b"some")
        with pytest.raises(InvalidArgument, match=expected):
            incoming.keep(expected)
    assert not place.raw()


def test_a_source_that_fails_leaves_nothing(place: Place, artifacts: Artifacts, tmp_path: Path) -> None:
    def source() -> Any:
        yield b"x"
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the very error of the source
        artifacts.put(source())
    assert not place.raw()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_collection_spares_what_is_young_or_referred_to(place: Place, artifacts: Artifacts) -> None:
    gone, kept = (artifacts.put(name)[0] for name in (b"gone", b"kept"))
    assert artifacts.collect(nothing) == 0
    asked: set[str] = set()

    def referenced(digests: Sequence[str]) -> set[str]:
        asked.update(digests)
        return {kept} & set(digests)

    assert artifacts.collect(referenced, ALL) == 1
    assert asked == {gone, kept}
    assert list(place.raw().values()) == [b"kept"]
    artifacts.discard(kept)
    artifacts.discard(kept)
    assert not place.raw()
    with pytest.raises(NotFound):
        artifacts.get(kept)


def test_a_file_that_is_stored_again_while_it_is_collected_stays(place: Place, artifacts: Artifacts) -> None:
    """Between the look for what is needed and the removal another worker stores the same content, for a job of its."""
    digest, _ = artifacts.put(b"x")
    age = ALL
    if isinstance(place.place, Path):
        age = 60.0
        for name in place.raw():
            os.utime(name, (1, 1))

    def referenced(_: Sequence[str]) -> set[str]:
        place.open("other").put(b"x")
        return set()

    artifacts.collect(referenced, age)
    assert place.open("third").get(digest) == b"x"


def test_old_objects_of_one_content_go(bucket: str, tmp_path: Path) -> None:
    place = Place(bucket, tmp_path)
    artifacts = place.open()
    digest = {artifacts.put(b"same")[0] for _ in range(3)}
    assert len(place.raw()) == 3
    assert artifacts.collect(set, ALL) == 0
    assert len(place.raw()) == 1
    assert place.open("other").get(digest.pop()) == b"same"


def test_of_several_objects_the_sound_one_is_read(bucket: str, tmp_path: Path) -> None:
    place = Place(bucket, tmp_path)
    artifacts = place.open()
    digest, _ = artifacts.put(b"same")
    artifacts.put(b"same")
    place.write(max(place.raw()), b"sane")
    assert artifacts.get(digest) == b"same"


def test_other_objects_are_left_alone(bucket: str, tmp_path: Path) -> None:
    place = Place(bucket, tmp_path)
    digest = hashlib.sha256(b"").hexdigest()
    others = {"readme.txt", "ab/file", "ab/cd/ef", f"ab/{digest}/x", f"e3/{digest[:-1]}/x"}
    for name in others:
        place.write(name, b"x")
    artifacts = place.open()
    artifacts.check()
    assert artifacts.collect(nothing, ALL) == 0
    assert set(place.raw()) == others | {"ouzel"}


@pytest.mark.parametrize("few", [0, 20])
def test_held_files_are_young(place: Place, artifacts: Artifacts, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ouzel.worker.artifacts.bucket._FEW", few)
    (digest, _), (other, _) = artifacts.put(b"xy"), artifacts.put(b"")
    assert artifacts.hold([digest, "0" * 64, other]) == {digest: 2, other: 0}
    if isinstance(place.place, Path):
        for name in place.raw():
            os.utime(name, (1, 1))
        assert artifacts.hold([digest]) == {digest: 2}
        assert artifacts.collect(nothing) == 1
    else:
        assert len(place.raw()) == 2  # they were young
        monkeypatch.setattr("ouzel.worker.artifacts.bucket.DAY", -3600.0)
        assert artifacts.hold([digest]) == {digest: 2}
        assert sorted(place.raw().values()) == [b"", b"xy", b"xy"]


def test_a_damaged_cache_is_fetched_again(bucket: str, tmp_path: Path) -> None:
    place = Place(bucket, tmp_path)
    artifacts = place.open()
    digest, _ = artifacts.put(b"x" * 100)
    assert artifacts.get(digest) == b"x" * 100
    (cached,) = (tmp_path / "cache").glob("??/*")
    cached.write_bytes(b"y" * 100)
    assert artifacts.get(digest) == b"x" * 100
    reading = artifacts.read(digest)
    assert next(reading)
    assert cached.read_bytes() == b"x" * 100


def test_a_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = Cache(tmp_path, room=250)
    fetched: list[str] = []

    def use(content: bytes) -> bytes:
        digest = hashlib.sha256(content).hexdigest()

        def fetch(incoming: Any) -> None:
            fetched.append(content.decode()[0])
            incoming.write(content)
            incoming.keep(digest)

        with cache.open(digest, fetch) as file:
            for number, path in enumerate(sorted(tmp_path.glob("??/*"), key=lambda each: each.stat().st_mtime_ns)):
                os.utime(path, ns=(number, number))  # so that what comes next is newer, whatever the clock's steps
            return file.read()

    for letter in (b"a", b"b", b"a", b"c", b"a", b"b", b"d" * 4):  # the last is larger than the room
        assert use(letter * 100) == letter * 100
    assert fetched == ["a", "b", "c", "b", "d"]


def test_a_link_is_valid_for_its_time(bucket: str, tmp_path: Path) -> None:
    artifacts = open_artifacts(bucket, tmp_path)
    digest, _ = artifacts.put(b"content")
    link = artifacts.link(digest, 60.0)
    assert link is not None
    with urllib.request.urlopen(link.url, timeout=30) as answer:
        assert answer.read() == b"content"
    for changed in (link.url[:-4] + "0000", link.url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(changed, timeout=30)
    assert artifacts.link("0" * 64, 60.0) is None
    assert FolderArtifacts(tmp_path / "folder").link(digest, 60.0) is None


def test_a_bucket_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers do not hear where it is, the operator does."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setattr("ouzel.bucket_objects._RETRIES", 0)
    artifacts = BucketArtifacts("s3://secret-place/prefix", tmp_path)
    calls: tuple[Callable[[], object], ...] = (
        lambda: artifacts.put(b"x"),
        lambda: artifacts.put(iter([b"x"])),
        lambda: artifacts.get("0" * 64),
        lambda: artifacts.size("0" * 64),
        lambda: artifacts.hold(["0" * 64]),
        artifacts.total,
        lambda: artifacts.discard("0" * 64),
        lambda: artifacts.collect(nothing),
    )
    for call in calls:
        with pytest.raises(StorageAway, match="storage of artifacts does not answer") as told:
            call()
        assert "secret-place" not in str(told.value)
    with pytest.raises(Unavailable, match="s3://secret-place/prefix/ouzel does not answer"):
        artifacts.check()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("url", ["s3://", "gs://bucket", "https://bucket"])
def test_places_that_cannot_be(url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="artifacts: "):
        open_artifacts(located(url, "artifacts"), tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync is faked to fail as on a full disk."""
    artifacts = FolderArtifacts(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ResourceExhausted, match="full"):
            artifacts.put(b"x" * 100)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert artifacts.put(b"x")


def test_what_killed_processes_have_left_goes(place: Place, artifacts: Artifacts, tmp_path: Path) -> None:
    spool = (place.place if isinstance(place.place, Path) else tmp_path / "cache") / "incoming"
    left = spool / "left"
    left.write_bytes(b"of a process that was killed")
    artifacts.collect(nothing)
    assert left.exists()
    os.utime(left, (1, 1))
    artifacts.collect(nothing)
    assert not left.exists()
