from __future__ import annotations

import os
from pathlib import Path

import pytest

from ouzel_protos import folders
from ouzel_protos.folders import BadFolder


def arranged(*names: str) -> list[tuple[str, str, str]]:
    return [(each.path, each.label, each.split) for each in folders.arrange(names).images]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cat/1.png", "dog/a/2.JPG"), [("cat/1.png", "cat", ""), ("dog/a/2.JPG", "dog", "")]),
        (("pets/cat/1.png", "pets/dog/2.webp"), [("cat/1.png", "cat", ""), ("dog/2.webp", "dog", "")]),
        (("cat/1.jfif", "dog/2.jpe"), [("cat/1.jfif", "cat", ""), ("dog/2.jpe", "dog", "")]),
        (
            ("d/train/cat/1.png", "d/val/dog/2.png"),
            [("train/cat/1.png", "cat", "train"), ("val/dog/2.png", "dog", "validation")],
        ),
        (
            ("train/cat/1.png", "train/dog/2.png"),
            [("train/cat/1.png", "cat", "train"), ("train/dog/2.png", "dog", "train")],
        ),
        (("train/1.png", "bus/2.png"), [("bus/2.png", "bus", ""), ("train/1.png", "train", "")]),  # vehicles
        (
            ("bullet train/1.png", "test tube/2.png"),
            [("bullet train/1.png", "bullet train", ""), ("test tube/2.png", "test tube", "")],
        ),
    ],
)
def test_labels_come_from_folders(names, expected):
    assert arranged(*names) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("train", "train"), ("val", "validation")),
        (("Training", "train"), ("Testing", "test")),
        (("training_set", "train"), ("test_set", "test")),
        (("TRAIN", "train"), ("eval", "test")),
        (("trainset", "train"), ("testset", "test")),
        (("train", "train"), ("dev", "validation")),
        (("train-images", "train"), ("Validation Images", "validation")),
        (("train2017", "train"), ("val2017", "validation")),
    ],
)
def test_splits_go_by_many_names(first, second):
    names = (f"{part}/{label}/1.png" for part in (first[0], second[0]) for label in ("cat", "dog"))
    assert {(label, split) for _, label, split in arranged(*names)} == {
        (label, split) for split in (first[1], second[1]) for label in ("cat", "dog")
    }


def test_eval_beside_a_test_is_for_choosing():
    names = [f"{part}/{label}/1.png" for part in ("train", "eval", "test") for label in ("a", "b")]
    assert {path.split("/")[0]: split for path, _, split in arranged(*names)} == {
        "train": "train",
        "eval": "validation",
        "test": "test",
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("1.png", "a/2.png"), "'1.png' lies in no folder"),
        (("train/cat/1.png", "test/cat/2.png", "extra/cat/3.png"), "'extra' does not"),
        (("cat/1.png", "dog/2.png", "test/3.png"), "'test' looks like a split and 'cat' does not"),
        (("train/cat/1.png", "bus/2.png"), "'train' looks like a split and 'bus' does not"),
        (("train/1.png", "test/2.png"), "hold no folders of classes"),
        (("train/1.png", "val/cat/2.png"), "'train' is a split, but"),
        (("train_a/cat/1.png", "train_b/cat/2.png"), "'train_a' looks like a split, but is not one of"),
        (("cat/train/1.png", "cat/test/2.png", "dog/train/3.png"), "splits lie above classes"),
        (("cat/1.png", "dog/2.png", "bird/1.bmp", "bird/2.tiff"), "'bird' holds 2 images, but no PNG"),
    ],
)
def test_what_tells_no_classes_is_refused(names, said):
    with pytest.raises(BadFolder, match=said):
        folders.arrange(names)


@pytest.mark.parametrize(
    "junk",
    [
        ".DS_Store",
        "cat/.hidden.png",
        "cat/._0.png",
        ".ipynb_checkpoints/0.png",
        "__MACOSX/cat/0.png",
        "@eaDir/0.png",
        "$RECYCLE.BIN/0.png",
        "lost+found/0.png",
        "cat/thumbs.db",
        "Desktop.INI",
        "Icon\r",
        "cat/0.png:Zone.Identifier",
        "README.txt",
        "cat/labels.csv",
        "cat/moving.gif",
        "logo.gif",
    ],
)
def test_what_is_not_used_is_told(junk):
    layout = folders.arrange(["cat/0.png", "dog/1.png", junk])
    assert [each.name for each in layout.images] == ["cat/0.png", "dog/1.png"]
    ((name, reason),) = layout.left_out
    assert name == junk
    assert reason


def test_unlabelled_images_beside_splits_are_told():
    names = [f"{part}/{label}/1.png" for part in ("train", "val") for label in ("a", "b")]
    layout = folders.arrange([*names, "test/1.png"])
    assert len(layout.images) == 4
    assert layout.left_out == (("test/1.png", "of the test images, but in no folder that names its class"),)


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_links_within_the_folder_are_followed_once(tmp_path):
    make(tmp_path, "cat/1.png", "dog/1.png")
    (tmp_path / "cat" / "2.png").symlink_to(tmp_path / "dog" / "1.png")
    (tmp_path / "cat" / "loop").symlink_to(tmp_path)
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "bird").mkdir()
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    layout, _ = folders.read_folder(tmp_path)
    assert [each.path for each in layout.images] == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert dict(layout.left_out) == {
        "bird/": "an empty folder",
        "cat/gone.png": "a link to nothing",
        "cat/loop/": "a link to a folder that is read already",
        "dog/pipe.png": "neither a file nor a folder",
    }


def test_links_that_may_hide_a_class_are_refused(tmp_path):
    make(tmp_path / "in", "cat/1.png")
    make(tmp_path / "out", "dog/1.png")
    (tmp_path / "in" / "dog").symlink_to(tmp_path / "out" / "dog")
    with pytest.raises(BadFolder, match="dog is a link that leads out of"):
        folders.read_folder(tmp_path / "in")
    layout, _ = folders.read_folder(tmp_path / "in", follow_links=True)
    assert [each.path for each in layout.images] == ["cat/1.png", "dog/1.png"]
    (tmp_path / "in" / "bird").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadFolder, match=r"bird is a link to .*nowhere, where nothing is"):
        folders.read_folder(tmp_path / "in", follow_links=True)


def test_a_name_in_another_encoding_is_named(tmp_path):
    make(tmp_path, "cat/1.png")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/caf\xe9.png"))).write_bytes(b"x")
    with pytest.raises(BadFolder, match=r"caf\\udce9.png' is not a file name in UTF-8") as caught:
        folders.read_folder(tmp_path)
    str(caught.value).encode()
