"""Images with boxes: both forms alike, and hostile files refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ouzel.errors import InvalidArgument, NotFound
from ouzel.finetune.detection import boxed_from_folder
from support import boxed

HEADER = "path,label,left,top,right,bottom\n"
GOOD = "a.png,cat,1,2,30,40\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "a.png")
    return tmp_path


def test_a_folder_as_it_should_be(tmp_path: Path) -> None:
    examples, classes = boxed_from_folder(boxed.write(tmp_path / "data", count=8))
    assert classes == boxed.CLASSES
    assert [len(one.boxes) for one in examples] == [0, 2, 2, 2] * 2
    assert examples[1].labels == (1, 2)
    assert examples[1].size == (boxed.WIDE, boxed.HIGH)


def test_coco_says_the_same(tmp_path: Path) -> None:
    folder = boxed.write(tmp_path / "data", count=8)
    examples, classes = boxed_from_folder(folder)
    (folder / "boxes.csv").unlink()
    content = {
        "images": [{"id": 10 + n, "file_name": one.path.name} for n, one in enumerate(examples)],
        "categories": [{"id": 7, "name": "square"}, {"id": 3, "name": "disc"}],
        "annotations": [
            {"id": 1, "image_id": 10 + n, "category_id": {1: 3, 2: 7}[label], "bbox": [x, y, r - x, b - y]}
            for n, one in enumerate(examples)
            for label, (x, y, r, b) in zip(one.labels, one.boxes, strict=True)
        ],
    }
    content["annotations"].append({"id": 2, "image_id": 10, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    (folder / "annotations.json").write_text(json.dumps(content))
    assert boxed_from_folder(folder) == (examples, classes)


def test_an_image_is_measured_as_it_is_shown(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(folder / "images" / "a.jpg", exif=exif)
    (folder / "boxes.csv").write_text(HEADER + "a.jpg,cat,0,0,48,64\n")
    ((one,), _) = boxed_from_folder(folder)
    assert one.size == (48, 64)
    (folder / "boxes.csv").write_text(HEADER + "a.jpg,cat,0,0,64,48\n")
    with pytest.raises(InvalidArgument, match=r"boxes.csv:2: right 64 is not within 0..48, the image's width"):
        boxed_from_folder(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (HEADER + GOOD + "a.png,cat,1,2,65,40\n", "boxes.csv:3: right 65 is not within 0..64, the image's width"),
        (HEADER + "a.png,cat,1,2,30,48.5\n", "boxes.csv:2: bottom 48.5 is not within 0..48, the image's height"),
        (HEADER + "a.png,cat,-1,2,30,40\n", "boxes.csv:2: left -1 is not within 0..64"),
        (HEADER + "a.png,cat,nan,2,30,40\n", "boxes.csv:2: 'nan' is not finite"),
        (HEADER + "a.png,cat,1,inf,30,40\n", "boxes.csv:2: 'inf' is not finite"),
        (HEADER + "a.png,cat,one,2,30,40\n", "boxes.csv:2: 'one' is not a number"),
        (HEADER + "a.png,cat,30,2,30,40\n", "boxes.csv:2: 30, 2, 30, 40 has no area"),
        (HEADER + "a.png,cat,1,40,30,2\n", "has no area"),
        (HEADER + "a.png,cat,1,2,30\n", "boxes.csv:2: 5 values where there are 6 columns"),
        (HEADER + "../a.png,cat,1,2,30,40\n", "boxes.csv:2: path '../a.png' is not that of a file below images/"),
        (HEADER + "/etc/passwd,cat,1,2,30,40\n", "is not that of a file below images/"),
        (HEADER + "a.png,,1,2,30,40\n", "cannot be the label of an object"),
        (HEADER + "a.png,background,1,2,30,40\n", "'background' cannot be the label of an object"),
        (HEADER + "a.png,,,,,\n", "there are 1 to 999"),
        (HEADER + GOOD * 501, "boxes.csv:502: 'a.png' has more than 500 boxes"),
        ("path;label\n", "boxes.csv:1: 'path;label' is not path,label,left,top,right,bottom"),
        ("", "boxes.csv:1: '' is not path,label"),
    ],
)
def test_hostile_tables_are_refused_with_their_place(folder: Path, content: str, told: str) -> None:
    (folder / "boxes.csv").write_text(content)
    with pytest.raises(InvalidArgument) as caught:
        boxed_from_folder(folder)
    assert told in str(caught.value)


def test_classes_that_are_named_are_all_that_there_are(folder: Path) -> None:
    (folder / "boxes.csv").write_text(HEADER + GOOD)
    assert boxed_from_folder(folder, ["cat", "dog"])[1] == ("background", "cat", "dog")
    with pytest.raises(InvalidArgument, match=r"boxes\.csv:2: label 'cat' is none of the 1 classes"):
        boxed_from_folder(folder, ["dog"])


def coco(**changes: object) -> str:
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], **changes}
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [one],
    }
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "annotations.json: is not JSON"),
        ("[]", "annotations.json: images is not a list of objects"),
        (coco(bbox=[1, 2, 64, 40]), "annotations[0]: right 65 is not within 0..64"),
        (coco(bbox=[1, 2, 0, 40]), "annotations[0]: 1, 2, 1, 42 has no area"),
        (coco(bbox=[1, 2, float("nan"), 40]), "annotations[0].bbox: nan is not finite"),
        (coco(bbox=[1, 2, True, 40]), "annotations[0].bbox: True is not a number"),
        (coco(bbox=[1, 2, 3]), "annotations[0].bbox: [1, 2, 3] is not left, top, width, height"),
        (coco(image_id=2), "annotations[0].image_id: 2 is not the id of one of 1"),
        (coco(category_id="cat"), "annotations[0].category_id: 'cat' is not the id of one of 1"),
        (coco().replace('"file_name": "a.png"', '"file_name": 3'), "images[0]: needs an id of its own and a file_name"),
    ],
)
def test_hostile_annotations_are_refused_with_their_place(folder: Path, content: str, told: str) -> None:
    (folder / "annotations.json").write_text(content)
    with pytest.raises(InvalidArgument) as caught:
        boxed_from_folder(folder)
    assert told in str(caught.value)


def test_files_that_are_missing_links_and_no_images(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(NotFound, match=r"has neither boxes.csv and annotations.json"):
        boxed_from_folder(folder)
    (folder / "boxes.csv").write_text(HEADER + "b.png,cat,1,2,30,40\n")
    with pytest.raises(NotFound, match=r"boxes.csv:2: there is no images/'b.png'"):
        boxed_from_folder(folder)
    outside = tmp_path_factory.mktemp("outside") / "b.png"
    Image.new("RGB", (64, 48)).save(outside)
    (folder / "images" / "b.png").symlink_to(outside)
    with pytest.raises(NotFound):
        boxed_from_folder(folder)
    (folder / "images" / "b.png").unlink()
    (folder / "images" / "b.png").write_bytes(np.zeros(100, np.uint8).tobytes())
    with pytest.raises(InvalidArgument, match="is no PNG, JPEG or WebP file"):
        boxed_from_folder(folder)
    (folder / "boxes.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match="is not UTF-8 text"):
        boxed_from_folder(folder)
