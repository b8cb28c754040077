"""The store of data sets, and what is found when one looks at the images."""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from skimage import data

from ouzel.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from ouzel.worker.datasets.check import check
from ouzel.worker.datasets.folder_storage import FolderStorage
from ouzel.worker.datasets.store import DatasetLimits, Datasets
from ouzel.worker.isolated import Isolated
from ouzel_protos import manifest
from ouzel_protos.v1 import dataset_pb2 as pb
from support.datasets import coloured, entries, ref, stored, two_colours
from support.digits import digits


@pytest.fixture(params=["folder", "bucket"])
def opened(request, tmp_path) -> Callable[..., Datasets]:
    """Opens the data sets as each of several processes does, each on a machine of its own."""
    place = tmp_path if request.param == "folder" else request.getfixturevalue("bucket")
    caches = itertools.count()
    return lambda *limits: Datasets(place, *limits, cache=tmp_path / f"cache-{next(caches)}")


@pytest.fixture
def datasets(opened) -> Datasets:
    return opened()


def left_over(folder) -> list:
    """Files that are neither stored under their digest nor manifests."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name == "incoming"]


def test_what_was_stored_is_found_again(datasets, opened, tmp_path):
    files = two_colours(3)
    made = stored(datasets, "me", files, "colours")
    assert made.id == manifest.digest(entries(files))
    assert (made.images, made.bytes, dict(made.classes)) == (6, sum(map(len, files.values())), {"blue": 3, "red": 3})
    again = opened()
    assert again.get("me", made.id) == made
    assert again.list("me") == [made]
    for entry in again.entries("me", made.id):
        assert again.read("me", entry.file.sha256) == files[entry.path]
    assert again.missing("me", [ref(content) for content in files.values()]) == []
    assert not left_over(tmp_path)


def test_the_same_data_set_is_no_other_and_keeps_its_title(datasets):
    first = stored(datasets, "me", two_colours(3), "first")
    assert stored(datasets, "me", two_colours(3), "second") == first


def test_others_see_nothing(datasets):
    made = stored(datasets, "me", two_colours(3))
    assert datasets.list("you") == []
    for ask in (datasets.get, datasets.entries, datasets.delete, datasets.report):
        with pytest.raises(NotFound, match="no data set"):
            ask("you", made.id)
    content = two_colours(3)["red/0.png"]
    assert datasets.missing("you", [ref(content)]) == [ref(content).sha256]
    with pytest.raises(FailedPrecondition, match="was not uploaded"):
        datasets.create("you", "", entries(two_colours(3)))


@pytest.mark.parametrize("name", ["", "../x", "0" * 63, "G" * 64, "/etc/passwd", "0" * 64])
def test_ids_that_are_none(datasets, name):
    with pytest.raises(NotFound):
        datasets.get("me", name)


def test_a_missing_file_is_named(datasets):
    files = two_colours(3)
    upload = datasets.upload("me")
    for content in list(files.values())[:-1]:
        upload.begin(ref(content))
        upload.write(pb.Chunk(offset=0, data=content))
    with pytest.raises(FailedPrecondition, match=r"'red/2\.png'"):
        datasets.create("me", "", entries(files))
    wrong = entries(files)[:-1]
    wrong[-1].file.size += 1
    with pytest.raises(FailedPrecondition, match=r"red/1\.png"):  # there, but of another size
        datasets.create("me", "", wrong)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda e: e[0].MergeFrom(pb.DatasetEntry(path="../x.png")), "entries[0].path"),
        (lambda e: e[1].MergeFrom(pb.DatasetEntry(path=e[0].path)), "entries[1].path"),
        (lambda e: e.__delitem__(slice(2, None)), "entries"),  # one class
        (lambda e: e.clear(), "entries"),
    ],
)
def test_bad_manifests_are_refused_by_field(datasets, change, field):
    stored(datasets, "me", two_colours(2))
    bad = entries(two_colours(2))
    change(bad)
    with pytest.raises(InvalidArgument) as caught:
        datasets.create("me", "", bad)
    assert caught.value.field == field


def test_an_id_that_the_manifest_has_not_and_a_long_title_are_refused(datasets):
    stored(datasets, "me", two_colours(2))
    with pytest.raises(InvalidArgument, match="has the digest"):
        datasets.create("me", "", entries(two_colours(2)), "0" * 64)
    with pytest.raises(InvalidArgument, match="title"):
        datasets.create("me", "x" * 129, entries(two_colours(2)))


def test_limits_of_an_owner(opened):
    content = coloured(0, 0)
    room = opened(DatasetLimits(bytes=len(content) + 10))
    upload = room.upload("me")
    upload.begin(ref(content))
    upload.write(pb.Chunk(data=content))
    with pytest.raises(ResourceExhausted, match="10 that are left"):
        upload.begin(ref(coloured(1, 1)))
    with pytest.raises(ResourceExhausted):
        room.upload("me").begin(ref(coloured(1, 1)))
    room.upload("you").begin(ref(coloured(1, 1)))
    one = opened(DatasetLimits(datasets=1))
    stored(one, "me", two_colours(2))
    with pytest.raises(ResourceExhausted, match="the most of one owner"):
        stored(one, "me", two_colours(3))


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (pb.Chunk(offset=0, data=b"x" * 2000), "has more than"),
        (pb.Chunk(offset=5, data=b"x"), "goes on at 0"),
        (pb.Chunk(offset=-1, data=b"x"), "goes on at 0"),
        (pb.Chunk(offset=0, data=b""), "0 bytes is not within"),
        (pb.Chunk(offset=0, data=b"x" * (2**20 + 1)), "is not within"),
        (pb.Chunk(offset=0, data=b"y" * 1000), "the bytes have"),
    ],
)
def test_pieces_that_do_not_fit_leave_nothing(datasets, tmp_path, chunk, said):
    upload = datasets.upload("me")
    upload.begin(ref(b"x" * 1000))
    with pytest.raises(InvalidArgument, match=said):
        upload.write(chunk)
    upload.close()
    assert not left_over(tmp_path)
    assert datasets.missing("me", [ref(b"x" * 1000)])


def test_an_empty_file_is_kept_for_the_report_to_tell(datasets):
    files = two_colours(3) | {"red/zero.png": b"", "blue/zero.png": b""}
    report = datasets.report("me", stored(datasets, "me", files).id)
    assert report.usable
    assert sorted(each.path for each in report.refused) == ["blue/zero.png", "red/zero.png"]
    upload = datasets.upload("me")
    with pytest.raises(InvalidArgument, match="the bytes have"):
        upload.begin(pb.FileRef(sha256="0" * 64, size=0))


def test_a_file_that_ends_early_or_was_not_begun_is_refused(datasets, tmp_path):
    upload = datasets.upload("me")
    with pytest.raises(InvalidArgument, match="no file was begun"):
        upload.write(pb.Chunk(data=b"x"))
    upload.begin(ref(b"x" * 10))
    upload.write(pb.Chunk(data=b"x" * 9))
    for ends in (upload.check_complete, lambda: upload.begin(ref(b"y"))):
        with pytest.raises(InvalidArgument, match="ended after 9 of 10 bytes"):
            ends()
    upload.close()
    assert not left_over(tmp_path)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    datasets = Datasets(tmp_path)

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    upload = datasets.upload("me")
    upload.begin(ref(b"x"))
    with pytest.raises(ResourceExhausted, match="full"):
        upload.write(pb.Chunk(data=b"x"))
    upload.close()
    assert not left_over(tmp_path)
    assert datasets.missing("me", [ref(b"x")])


def test_deleted_ones_are_gone_and_their_files_go_when_nobody_needs_them(datasets):
    first, second = stored(datasets, "me", two_colours(2)), stored(datasets, "me", two_colours(3))
    datasets.delete("me", second.id)
    assert datasets.list("me") == [first]
    assert datasets.collect("me") == 0  # young ones stay: an upload may be under way
    assert datasets.collect("me", age=-60) == 2
    assert datasets.missing("me", [ref(content) for content in two_colours(2).values()]) == []


def test_files_that_no_data_set_came_to_need_go_after_a_day(tmp_path):
    datasets = Datasets(tmp_path)
    made = stored(datasets, "me", two_colours(2))
    upload = datasets.upload("you")
    upload.begin(ref(b"alone"))
    upload.write(pb.Chunk(data=b"alone"))
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))
    assert not datasets.missing("you", [ref(b"alone")])  # somebody asks, and may be about to use it
    datasets.collect_all()
    assert not datasets.missing("you", [ref(b"alone")])
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))
    datasets.collect_all()
    assert datasets.missing("you", [ref(b"alone")])
    assert datasets.missing("me", [entry.file for entry in datasets.entries("me", made.id)]) == []


def test_what_is_damaged_is_not_used(datasets, opened, tmp_path):
    """Manifests and files that somebody has changed past Ouzel."""
    place = datasets._storage
    folder = tmp_path if isinstance(place, FolderStorage) else None
    made = stored(datasets, "me", two_colours(2))
    digest = datasets.entries("me", made.id)[0].file.sha256

    def change(part: str) -> None:
        if folder is not None:
            (path,) = (each for each in folder.rglob(f"*{part}") if each.is_file())
            path.write_bytes(path.read_bytes()[:-1] + b"!")
            return
        (key,) = (each.key for each in place._asked.listed(None) if part in each.key.split("/"))
        place._asked.put(key, place._asked.get(key)[:-1] + b"!")

    change(made.id)
    with pytest.raises(DataLoss, match=r"manifest|record"):
        opened().entries("me", made.id)
    change(digest)
    with pytest.raises(DataLoss, match=digest):
        opened().read("me", digest)


def test_owners_are_told_apart(datasets, opened):
    content = two_colours(2)
    made = stored(datasets, "me", content)
    stored(datasets, "you", two_colours(3))
    for owner in ("me", "you"):
        assert opened().used(owner) == sum(len(each) for each in two_colours(2 if owner == "me" else 3).values())
    datasets.delete("me", made.id)
    assert datasets.collect("me", age=-60) == len(content)
    assert datasets.used("me") == 0
    assert len(datasets.entries("you", datasets.list("you")[0].id)) == 6
    datasets.collect_all()
    assert datasets.total() > datasets.used("you") > 0


def test_lists_follow_what_other_workers_do(datasets, opened):
    other = opened()
    first = stored(datasets, "me", two_colours(2), "first")
    assert other.list("me") == [first]
    second = stored(datasets, "me", two_colours(3), "second")
    assert {each.title for each in other.list("me")} == {"first", "second"}
    datasets.delete("me", first.id)
    assert other.list("me") == [second]
    again = stored(datasets, "me", two_colours(2), "again")
    assert again in other.list("me")


def test_a_report_is_made_once(datasets, monkeypatch):
    made = stored(datasets, "me", two_colours(5) | {"red/broken.png": b"\x89PNG\r\n\x1a\n no"})
    report = datasets.report("me", made.id)  # by a process of its own
    assert [each.path for each in report.refused] == ["red/broken.png"]
    assert report.usable
    monkeypatch.setattr(Isolated, "ask", None)
    assert datasets.report("me", made.id) == report


def looked_at(files: dict[str, bytes], **splits: str) -> pb.DatasetReport:
    seen = [
        replace_split(entry, splits.get(entry.path.split("/")[-1].partition(".")[0], "")) for entry in entries(files)
    ]
    contents = {ref(content).sha256: content for content in files.values()}
    return check(sorted(seen, key=lambda entry: entry.path), contents.__getitem__)


def replace_split(entry: pb.DatasetEntry, split: str) -> pb.DatasetEntry:
    entry.split = split
    return entry


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_near_duplicates_are_found_and_other_photographs_are_not():
    cat, coffee = Image.fromarray(data.chelsea()), Image.fromarray(data.coffee())
    rocket, astronaut = Image.fromarray(data.rocket()), Image.fromarray(data.astronaut())
    report = looked_at(
        {
            "cat/a.png": encoded(cat),
            "cat/b.jpg": encoded(cat, "JPEG", quality=40),
            "cat/c.webp": encoded(cat.resize((200, 133)), "WEBP"),
            "thing/coffee.png": encoded(coffee),
            "thing/again.png": encoded(coffee),
            "thing/rocket.png": encoded(rocket),
            "cat/astronaut.png": encoded(astronaut),
            "thing/cat.png": encoded(cat.crop((1, 1, 450, 299))),
        },
        a="train",
        b="test",
    )
    groups = {tuple(group.paths): group for group in report.duplicates}
    assert set(groups) == {
        ("cat/a.png", "cat/b.jpg", "cat/c.webp", "thing/cat.png"),
        ("thing/again.png", "thing/coffee.png"),
    }
    near = groups["cat/a.png", "cat/b.jpg", "cat/c.webp", "thing/cat.png"]
    assert (near.exact, near.labels_differ, near.across_splits) == (False, True, True)
    same = groups["thing/again.png", "thing/coffee.png"]
    assert (same.exact, same.labels_differ, same.across_splits) == (True, False, False)
    assert any("leakage" in warning for warning in report.warnings)
    assert any("different labels" in warning for warning in report.warnings)


def test_digits_are_not_taken_for_duplicates():
    images, classes = digits()
    files = {
        f"{label}/{row}.png": encoded(Image.fromarray(images[row].reshape(28, 28)))
        for label in range(10)
        for row in np.flatnonzero(classes == label)[:60]
    }
    report = looked_at(files)
    assert report.usable
    assert sum(len(group.paths) for group in report.duplicates) <= 0.02 * len(files)
    assert not any(group.labels_differ for group in report.duplicates)


def test_flat_images_are_no_duplicates_unless_they_are_the_same():
    files = {f"a/{n}.png": encoded(Image.new("L", (32, 32), n)) for n in range(5)}
    report = looked_at(files | {f"b/{n}.png": encoded(Image.new("L", (32, 32), n + 100)) for n in range(5)})
    assert not report.duplicates


def test_labels_that_are_easily_mistaken_are_told():
    labels = ("cat ", "cat", "Dog", "dog", "bird")
    report = looked_at({f"{label}/{n}.png": coloured(k % 3, n + k) for k, label in enumerate(labels) for n in range(3)})
    assert report.usable
    assert "spaces at the beginning or end: 'cat '" in report.warnings
    assert "classes that differ in case or spaces alone: 'Dog', 'dog'; 'cat', 'cat '" in report.warnings


def test_classes_that_are_too_small_or_too_different_are_told():
    files = {f"many/{n}.png": coloured(0, n) for n in range(45)} | {f"few/{n}.png": coloured(1, n) for n in range(4)}
    report = looked_at(files)
    assert report.usable
    assert any("imbalance: 45 images of 'many', 4 of 'few'" in warning for warning in report.warnings)
    assert any("fewer than 5 images: few" in warning for warning in report.warnings)
    files |= {"one/1.png": coloured(2, 0)}
    report = looked_at(files)
    assert not report.usable
    assert list(report.problems) == ["class 'one' has 1 image(s) that can be used; 2 are needed at least"]


def test_a_class_with_three_images_is_needed():
    two = {f"{label}/{n}.png": coloured(seed, n) for seed, label in enumerate("ab") for n in range(2)}
    assert list(looked_at(two).problems) == [
        "no class has three images: to train on, to choose by, and for the figures"
    ]
    assert looked_at(two | {"a/2.png": coloured(0, 2)}).usable


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<svg/>", "not a PNG, JPEG or WebP"),
        (coloured(0, 0)[:300], "broken"),
        (encoded(Image.new("RGB", (4, 4))), "shorter edge"),
        (encoded(Image.new("RGB", (1000, 20))), "times the other"),
        (b"GIF89a", "not a PNG, JPEG or WebP"),
    ],
)
def test_each_refused_image_has_its_reason(content, said):
    report = looked_at(two_colours(5) | {"red/x.png": content})
    assert [each.path for each in report.refused] == ["red/x.png"]
    assert said in report.refused[0].reason
    assert report.usable
    assert dict(report.classes) == {"blue": 5, "red": 5}


def test_masks_and_boxes_must_fit():
    files = two_colours(5)
    good, small = encoded(Image.new("L", (40, 40), 255)), encoded(Image.new("L", (20, 20), 255))
    ordered = sorted(entries(files), key=lambda entry: entry.path)
    ordered[0].mask.CopyFrom(ref(good))
    ordered[1].mask.CopyFrom(ref(small))
    ordered[2].boxes.add(left=0, top=0, right=40, bottom=40)
    ordered[3].boxes.add(left=50, top=0, right=60, bottom=10)
    contents = {ref(content).sha256: content for content in (*files.values(), good, small)}
    report = check(ordered, contents.__getitem__)
    assert [(each.path, each.reason.split(":")[0]) for each in report.refused] == [
        (ordered[1].path, "mask"),
        (ordered[3].path, "boxes"),
    ]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Image.new("L", (40, 40), 0), "mask: is black all over; it must be white on the object"),
        (Image.new("L", (40, 40), 127), "mask: is black all over; it must be white on the object"),
        (Image.new("RGBA", (40, 40), (255, 255, 255, 0)), "mask: a mask must not be transparent"),
    ],
)
def test_masks_must_show_an_object(mask: Image.Image, said: str):
    files = two_colours(5)
    ordered = sorted(entries(files), key=lambda entry: entry.path)
    dot = Image.new("L", (40, 40), 0)
    dot.putpixel((3, 3), 255)
    for entry, each in zip(ordered, (mask, dot), strict=False):
        entry.mask.CopyFrom(ref(encoded(each)))
    contents = {ref(content).sha256: content for content in (*files.values(), encoded(mask), encoded(dot))}
    report = check(ordered, contents.__getitem__)
    assert [each.path for each in report.refused] == [ordered[0].path]
    assert report.refused[0].reason.startswith(said)


def test_a_large_crowd_of_equal_hashes_ends(monkeypatch):
    from ouzel.worker.datasets import check

    monkeypatch.setattr(check, "_CROWD", 3)
    stripes = Image.fromarray(np.tile(np.repeat(np.array([0, 200], np.uint8), 4), (32, 4)))
    files = {f"a/{n}.png": encoded(stripes, compress_level=n) for n in range(8)} | two_colours(3)
    report = looked_at(files)
    assert [len(group.paths) for group in report.duplicates] == [8]
