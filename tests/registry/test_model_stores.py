"""A model store that several machines share: in a folder, and in a real bucket where each has its own copy."""

from __future__ import annotations

import json
import os
import re
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ouzel.buckets import Prefix, StorageAway, located
from ouzel.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound
from ouzel.model_files import ModelFiles
from ouzel.models.store import ModelStore
from ouzel.registry import mirror
from ouzel.registry.bucket import BucketRegistry
from ouzel.registry.folder import FolderRegistry
from ouzel.registry.mirror import VersionTaken
from ouzel.registry.opening import mirrored, open_registry
from ouzel.registry.record import ModelRecord, StoredVersion, parse
from support.seaweed import Seaweed, seaweed
from support.toys import add_toy, digest, write_toy
from support.tuned import publish


@dataclass
class Place:
    place: str | Path
    folder: Path

    def machine(self, name: str = "one") -> ModelFiles:
        """The store as one of several machines sees it."""
        return ModelFiles(*mirrored(self.place, self.folder / name))

    def torch(self, name: str = "one") -> ModelStore:
        return ModelStore(*mirrored(self.place, self.folder / name))

    def registry(self) -> Any:
        return open_registry(self.place)

    def objects(self) -> dict[str, bytes]:
        """Of a bucket, past Ouzel's own code."""
        prefix = Prefix(str(self.place), "place")
        keys = [str(each["path"]) for group in prefix.api.list(prefix.store) for each in group]
        return {key: bytes(prefix.api.get(prefix.store, key).bytes()) for key in keys}

    def put(self, key: str, content: bytes) -> None:
        prefix = Prefix(str(self.place), "place")
        prefix.api.put(prefix.store, key, content)


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "_FRESH", 0.0)


@pytest.fixture
def in_bucket(bucket: str, tmp_path: Path) -> Place:
    return Place(bucket, tmp_path)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(tmp_path / "store", tmp_path)
    return Place(request.getfixturevalue("bucket"), tmp_path)


def versions(store: ModelFiles, name: str = "toy") -> dict[str, str]:
    return {file.version: file.digest for file in store.of(name)}


def test_what_one_machine_does_others_see(place: Place) -> None:
    one, two = place.machine("one"), place.machine("two")
    for number in (1, 2, 10):
        add_toy(one, str(number), number)
    assert versions(two) == {"1": digest(1), "2": digest(2), "10": digest(10)}  # lowest first
    assert list(versions(two)) == ["1", "2", "10"]
    assert (two.default("toy"), two.file("toy@10").job) == ("1", "job 10")
    two.promote("toy", "10")
    assert one.default("toy") == "10"
    assert [file.version for file in one.all()] == ["1", "2", "10"]
    assert one.defaults()["toy"].version == "10"
    with pytest.raises(FailedPrecondition, match="10 is the default of 'toy'"):
        one.withdraw("toy", "10", unless_default=True)
    one.withdraw("toy", "10")
    assert (two.default("toy"), list(versions(two))) == ("1", ["1", "2"])
    with pytest.raises(NotFound, match="no version '10'"):
        two.promote("toy", "10")
    for reference in ("toy@1", "toy@2"):
        two.remove(reference)
    assert one.all() == two.all() == ()
    with pytest.raises(NotFound, match="which holds nothing"):
        one.file("toy")
    left = [path.name for path in two.folder.iterdir() if path.name not in (".mirror", ".agents")]
    assert left == []


def test_a_failed_version_goes_unless_it_was_chosen_or_replaced(place: Place) -> None:
    one, two = place.machine("one"), place.machine("two")
    for number in (1, 2, 3):
        add_toy(one, str(number), number)
    first, second, third = one.of("toy")
    two.promote("toy", "2")
    assert (one.chosen("toy"), one.withdraw_unchosen(second)) == ("2", False)
    two.remove("toy@3")
    assert not one.withdraw_unchosen(third)
    add_toy(two, "3", 4)
    assert not one.withdraw_unchosen(third)
    assert versions(two) == {"1": digest(1), "2": digest(2), "3": digest(4)}
    assert one.withdraw_unchosen(first)
    assert list(versions(two)) == ["2", "3"]


def test_what_a_gate_held_back_is_no_default(place: Place) -> None:
    store = place.machine()
    add_toy(store, "1", 1, gate=False)
    assert store.default_of(store.of("toy")) is None
    record = place.registry().record("toy")
    assert (record.default, [each.held_back for each in record.versions]) == ("", [True])
    add_toy(store, "2", 2, gate=True)
    assert store.default("toy") == place.registry().record("toy").default == "2"
    store.promote("toy", "1")
    assert store.default("toy") == place.registry().record("toy").default == "1"


def test_a_version_that_somebody_waits_for(place: Place) -> None:
    store, registry = place.machine(), place.registry()
    for number in (1, 2):
        add_toy(store, str(number), number)
    before = registry.names()["toy"]
    registry.want("toy", "2")
    assert registry.record("toy").wanted == ("2",)
    assert registry.names()["toy"] != before
    with pytest.raises(NotFound, match="no version '9'"):
        registry.want("toy", "9")
    store.promote("toy", "1")
    assert registry.record("toy").wanted == ()
    registry.want("toy", "2")
    add_toy(store, "3", 3)  # else whatever anybody ever waited for would stay loaded
    assert registry.record("toy").wanted == ()


def test_a_registry_says_what_is_there(place: Place, tmp_path: Path) -> None:
    store, registry = place.machine(), place.registry()
    if isinstance(place.place, Path):
        with pytest.raises(StorageAway, match="is not there"):  # a mount that is missing is not an empty store
            registry.names()
    add_toy(store, "1", 1)
    record = registry.record("toy")
    (version,) = record.versions
    assert (version.version, version.digest, version.job, version.plain) == ("1", digest(1), "job 1", False)
    registry.fetch("toy", version, tmp_path / "copy.mar")
    assert (tmp_path / "copy.mar").read_bytes() == store.find("toy@1").read_bytes()
    assert registry.record("none") is None
    store.remove("toy@1")
    assert registry.record("toy") is None
    with pytest.raises(NotFound, match="any more"):
        registry.fetch("toy", version, tmp_path / "copy.mar")
    registry.report("node-1", b"x")
    registry.report("node-1", b"y")
    assert {node: told.content for node, told in registry.reports().items()} == {"node-1": b"y"}
    registry.forget("node-1")
    assert registry.reports() == {}
    with pytest.raises(InvalidArgument):
        registry.report("../node", b"x")


def test_a_job_publishes_once_from_any_machine(place: Place) -> None:
    one, two = place.torch("one"), place.torch("two")
    assert [publish(one, "first", 1), publish(two, "second", 2)] == ["1", "2"]
    assert publish(two, "first", 3) == "1"  # another attempt, elsewhere, with other weights
    assert len({entry.digest for entry in two.versions("tuned")}) == 2
    with pytest.raises(AlreadyExists, match="somebody else's"):
        publish(two, "third", 3, owner="bob")


def test_many_machines_publish_at_the_same_time(in_bucket: Place) -> None:
    """Each has a lock of its own; the record of the bucket is what keeps them apart."""
    got: list[str] = []

    def work(number: int) -> None:
        got.append(publish(in_bucket.torch(f"machine {number}"), f"job {number % 4}", number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    found = in_bucket.machine().of("tuned")
    assert sorted(got) == sorted(["1", "2", "3", "4"] * 2)  # each job twice, and one version of each
    assert sorted(file.job for file in found) == [f"job {number}" for number in range(4)]
    named = [each.key for each in in_bucket.registry().record("tuned").versions]
    assert sorted(key for key in in_bucket.objects() if key.startswith("archives/")) == sorted(named)  # no orphans


def test_a_number_that_another_machine_has_taken(in_bucket: Place) -> None:
    one, two = in_bucket.machine("one"), in_bucket.machine("two")
    add_toy(one, "1", 1)
    with pytest.raises(VersionTaken, match="version 1 was published from another machine"):
        add_toy(two, "1", 2)
    with pytest.raises(VersionTaken, match="job job 1 has published this"):
        add_toy(two, "2", 1)
    with pytest.raises(AlreadyExists, match="somebody else's"):
        two.add("toy", "3", lambda path: write_toy(path, "3", 3), plain=True)
    assert versions(two) == {"1": digest(1)}
    assert sum(key.startswith("archives/") for key in in_bucket.objects()) == 1


def test_an_operators_archive_takes_the_place_of_the_one_before(place: Place) -> None:
    one, two = place.machine("one"), place.machine("two")
    if isinstance(place.place, Path):
        place.place.mkdir()
    for seed, version in ((1, "1"), (2, "1"), (3, "2")):
        one.add("plain", version, lambda path, s=seed, v=version: write_toy(path, v, s), plain=True)
        (file,) = two.of("plain")
        assert (file.version, file.digest, file.path.name) == (version, digest(seed), "plain.mar")
    assert two.default("plain") == "2"
    if not isinstance(place.place, Path):
        assert sum(key.startswith("archives/") for key in place.objects()) == 1


def test_a_damaged_archive_is_refused_and_takes_no_others_place(in_bucket: Place) -> None:
    store = in_bucket.machine("one")
    for number in (1, 2):
        add_toy(store, str(number), number)
    store.promote("toy", "2")
    record = in_bucket.registry().record("toy")
    key = record.find("2").key
    whole = in_bucket.objects()[key]
    in_bucket.put(key, whole[:-1] + bytes([whole[-1] ^ 1]))
    other = in_bucket.machine("two")
    file = other.file("toy")  # still the default: no other version answers in its place
    assert (file.version, file.digest) == ("2", "")
    assert "toy 2 is damaged in s3://" in file.error
    assert "SHA-256 differs" in file.error
    assert other.file("toy@1").error == ""
    assert store.file("toy").error == ""  # has it already
    in_bucket.put(key, whole)
    healed = in_bucket.machine("two")
    assert (healed.file("toy").error, healed.file("toy").digest) == ("", digest(2))


def test_a_damaged_copy_on_this_machine_is_fetched_again(in_bucket: Place) -> None:
    store = in_bucket.machine()
    add_toy(store, "1", 1)
    path = store.find("toy")
    path.unlink()
    assert in_bucket.machine().file("toy").digest == digest(1)
    path.write_bytes(b"short")
    add_toy(store, "2", 2)
    assert versions(store) == {"1": digest(1), "2": digest(2)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"toy"', '"other"'),
        lambda text: text.replace('"form": 1', '"form": 2'),
        lambda text: text.replace('"version": "1"', '"version": "../1"'),
        lambda text: text.replace('"plain": false', '"plain": "no"'),
        lambda text: json.dumps({**json.loads(text), "versions": [{"version": "1"}]}),
        lambda text: text.replace('"key": "archives/', '"key": "../archives/'),
        lambda text: text.replace('"key": "archives/toy/', '"key": "archives/other/'),  # to be removed with a version
        lambda text: re.sub('"size": [0-9]+', '"size": -1', text),
        lambda text: re.sub('"size": [0-9]+', '"size": true', text),
        lambda text: text.replace('"default": ""', '"default": "7"'),  # callers would get another version
        lambda text: text.replace('"default": ""', '"default": "\u00fc"'),
        lambda text: json.dumps(json.loads(text) | {"versions": 2 * json.loads(text)["versions"]}),
        lambda _: "[]",
        lambda _: "null",
        lambda _: 100_000 * "[",
    ],
)
def test_a_damaged_record_is_no_answer(in_bucket: Place, damage: Callable[[str], str]) -> None:
    store = in_bucket.machine()
    add_toy(store, "1", 1)
    add_toy(store, "1", 2, name="other")
    in_bucket.put("names/toy.json", damage(in_bucket.objects()["names/toy.json"].decode()).encode())
    with pytest.raises(DataLoss, match="record of the model 'toy' is damaged"):
        in_bucket.registry().record("toy")
    with pytest.raises(DataLoss):
        add_toy(store, "2", 3)
    with pytest.raises(DataLoss):
        in_bucket.machine("two").file("toy")
    assert [file.name for file in in_bucket.machine("two").all()] == ["other"]


@pytest.mark.parametrize("damage", ["gone", "short", "long"])
def test_an_archive_that_is_not_what_its_record_says(in_bucket: Place, damage: str) -> None:
    """It takes no other model along, and it is not the bucket that does not answer."""
    store = in_bucket.machine()
    add_toy(store, "1", 1)
    add_toy(store, "1", 2, name="other")
    record = in_bucket.objects()["names/toy.json"].decode()
    if damage == "gone":
        in_bucket.registry().remove([json.loads(record)["versions"][0]["key"]])
    else:
        size = json.loads(record)["versions"][0]["size"] * 10 ** (9 if damage == "short" else 0) - (damage == "long")
        in_bucket.put("names/toy.json", re.sub('"size": [0-9]+', f'"size": {size}', record).encode())
    other = in_bucket.machine("two")
    listed = {file.name: file for file in other.all()}
    assert listed["other"].error == ""
    assert "toy 1 " in listed["toy"].error
    assert other.file("other").digest == digest(2)


def test_records_are_what_they_were() -> None:
    made = StoredVersion("1", False, "a" * 64, 3, "archives/toy/k", "sha256:x", "job", 2, True)
    record = ModelRecord("toy", (made,), "1", ("1",), "t")
    assert parse("toy", record.to_json(), "t") == record
    assert record.without("1") == ModelRecord("toy", (), "", (), "t")


def test_what_killed_processes_left_is_removed(in_bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = in_bucket.machine()
    add_toy(store, "1", 1)
    in_bucket.put("archives/toy/feed/1-x", b"left")
    add_toy(store, "2", 2)
    assert "archives/toy/feed/1-x" in in_bucket.objects()  # somebody may be about to name it
    monkeypatch.setattr("ouzel.registry.bucket._OLD", -60.0)
    add_toy(store, "3", 3)
    assert "archives/toy/feed/1-x" not in in_bucket.objects()
    assert list(versions(in_bucket.machine("two"))) == ["1", "2", "3"]


def test_large_archives_come_in_parts(in_bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = os.urandom(9 * 2**20)  # more than one part

    def write(path: Path) -> None:
        write_toy(path, "1", 1, "job")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("noise", noise)

    in_bucket.machine().add("toy", "1", write)
    assert in_bucket.machine("two").find("toy").read_bytes() == in_bucket.machine().find("toy").read_bytes()


def test_a_bucket_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ouzel.bucket_objects._RETRIES", 0)
    with seaweed() as server:
        _find(server, monkeypatch)
        place = Place(f"s3://{server.make('models')}/m", tmp_path)
        registry = place.registry()
        assert isinstance(registry, BucketRegistry)
        registry.check()
        registry.check()
        store = place.machine()
        add_toy(store, "1", 1)
        server.kill()
        for ask in (store.all, lambda: store.file("toy"), lambda: store.promote("toy", "1"), registry.reports):
            with pytest.raises(StorageAway, match="storage of models does not answer"):
                ask()
        with pytest.raises(StorageAway):
            add_toy(store, "2", 2)
        assert list((store.folder / ".mirror" / "new").iterdir()) == []
        server.start()
        add_toy(store, "2", 2)
        assert list(versions(store)) == ["1", "2"]


def _find(server: Seaweed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)


def test_a_bucket_that_heeds_no_conditions_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = BucketRegistry(bucket)
    monkeypatch.setattr(registry._asked, "swap", lambda key, tag, content: registry._asked.put(key, content) or "tag")
    with pytest.raises(FailedPrecondition, match="does not heed the conditions If-Match"):
        registry.check()


def test_places(tmp_path: Path) -> None:
    assert located("s3://b/p/", "store") == "s3://b/p"
    for place in ("gs://b", "s3:/bucket/models", Path("s3://bucket/models"), "S3://bucket"):  # none is a folder
        with pytest.raises(InvalidArgument, match="not a folder or s3://"):
            located(place, "store")
    for place in ("s3://", "s3://bucket name/models", "s3://bucket/../models"):
        with pytest.raises(InvalidArgument, match=r"names no bucket|no prefix of a bucket") as caught:
            open_registry(place)
        assert caught.value.field == "models"
    assert isinstance(open_registry(tmp_path), FolderRegistry)
    with pytest.raises(InvalidArgument, match="needs a folder"):
        mirrored("s3://b/p", None)
