from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouzel_protos import manifest
from ouzel_protos.manifest import BadEntry
from ouzel_protos.v1 import dataset_pb2 as pb


def entry(path: str = "cat/1.png", label: str = "cat", **more) -> pb.DatasetEntry:
    return pb.DatasetEntry(path=path, label=label, file=pb.FileRef(sha256="a" * 64, size=9), **more)


def full() -> list[pb.DatasetEntry]:
    mask = pb.FileRef(sha256="b" * 64, size=7)
    boxes = [pb.Box(left=0.5, top=1, right=2, bottom=3)]
    return [entry("é/2.png", "é", split="test"), entry("cat/1.png", mask=mask, boxes=boxes)]


def test_the_id_depends_on_the_content_alone():
    assert manifest.digest(full()) == manifest.digest(full()[::-1])
    for changed in (
        [*full(), entry("cat/3.png")],
        [full()[0], entry("cat/1.png", label="dog")],
        [full()[0], entry("cat/1.png", split="train")],
    ):
        assert manifest.digest(changed) != manifest.digest(full())
    # Written down, so that a later version cannot lose the data sets of an earlier one.
    assert manifest.digest(full()) == "5e373abcef1f115e0df39801a6d4bc3e6e1c4584cbed2e530763a5222b514e6b"


def test_what_is_written_is_read_again():
    assert manifest.read(manifest.canonical(full())) == sorted(full(), key=lambda each: each.path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x.png",
        "a/../b.png",
        "a//b.png",
        "a/./b.png",
        "a\\b.png",
        "C:/x.png",
        "a\nb.png",
        "a" * 513,
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(BadEntry) as caught:
        manifest.check([entry("ok/1.png"), entry(path)])
    assert caught.value.field == "entries[1].path"


@given(st.text())
def test_a_path_that_is_taken_stays_in_its_folder(path):
    try:
        manifest.check_path(path, "path")
    except BadEntry:
        return
    assert not path.startswith("/")
    assert not {"..", "."} & set(path.split("/"))


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (entry(label=""), "label"),
        (entry(label="x" * 201), "label"),
        (entry(label="a\tb"), "label"),
        (entry(split="dev"), "split"),
        (pb.DatasetEntry(path="a/1.png", label="a", file=pb.FileRef(sha256="A" * 64, size=1)), "file.sha256"),
        (pb.DatasetEntry(path="a/1.png", label="a", file=pb.FileRef(sha256="a" * 64, size=-1)), "file.size"),
        (pb.DatasetEntry(path="a/1.png", label="a", file=pb.FileRef(sha256="a" * 64, size=2**25 + 1)), "file.size"),
        (entry(mask=pb.FileRef(sha256="x", size=1)), "mask.sha256"),
        (entry(boxes=[pb.Box(left=3, top=0, right=2, bottom=1)]), "boxes"),
        (entry(boxes=[pb.Box(left=math.nan, top=0, right=2, bottom=1)]), "boxes"),
    ],
)
def test_what_no_data_set_holds_is_named(bad, field):
    with pytest.raises(BadEntry) as caught:
        manifest.check([bad])
    assert caught.value.field == f"entries[0].{field}"
    assert field in str(caught.value)


def test_two_of_the_same_path_and_too_many_are_refused(monkeypatch):
    with pytest.raises(BadEntry, match="there twice"):
        manifest.check([entry(), entry()])
    monkeypatch.setattr(manifest, "MOST_IMAGES", 2)
    with pytest.raises(BadEntry, match="3 images are more than 2"):
        manifest.check([entry(f"a/{n}.png") for n in range(3)])


def test_one_class_is_nothing_to_tell_apart_and_thousands_are_too_many(monkeypatch):
    with pytest.raises(BadEntry, match="no image"):
        manifest.check_classes([])
    with pytest.raises(BadEntry, match="only the class 'cat'"):
        manifest.check_classes([entry("cat/1.png"), entry("cat/2.png")])
    monkeypatch.setattr(manifest, "MOST_CLASSES", 2)
    with pytest.raises(BadEntry, match="3 classes are more than 2"):
        manifest.check_classes([entry(f"{label}/1.png", label) for label in "abc"])


def test_texts_in_decomposed_form_are_refused():
    for wrong, field in ((entry("cafe\u0301/1.png", "caf\u00e9"), "path"), (entry(label="cafe\u0301"), "label")):
        with pytest.raises(BadEntry, match="NFC") as caught:
            manifest.check([wrong])
        assert caught.value.field == f"entries[0].{field}"


def test_labels_and_paths_of_all_scripts_are_taken():
    manifest.check([entry("Bildschirmfoto\u00a01.png", "نی\u200cلبک"), entry("👩\u200d🔬/1.png", "👩\u200d🔬")])
