"""Folders of images with boxes: both forms alike, and hostile files refused with file, line, value and limit."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from PIL import Image

from ouzel_protos import box_folders
from ouzel_protos.box_folders import BoxedImages
from ouzel_protos.folders import BadFolder
from ouzel_protos.objects import BadBoxes
from ouzel_protos.pictures import shown_size
from support import boxed

HEADER = "path,label,left,top,right,bottom\n"
GOOD = "a.png,cat,1,2,30,40\n"


def picture(width: int = 64, height: int = 48, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, kind, **options)
    return out.getvalue()


def collect(contents: dict[str, bytes | str], *, measured: bool = True) -> BoxedImages:
    held = {name: each.encode() if isinstance(each, str) else each for name, each in contents.items()}
    reads = {name: lambda content=content: content for name, content in held.items()}
    return box_folders.collect(reads, shown_size if measured else None)


def table(lines: str) -> dict[str, bytes | str]:
    return {"images/a.png": picture(), "boxes.csv": HEADER + lines}


def seen(found: BoxedImages) -> list[Any]:
    return [(each.path, each.split, each.boxes, each.labels) for each in found.images]


def test_a_table_and_annotations_say_the_same() -> None:
    files = boxed.files(8)
    found = collect(dict(files))
    scenes = boxed.scenes(8)
    assert found.classes == boxed.OBJECTS
    assert [
        (each.path, [(*box, label) for box, label in zip(each.boxes, each.labels, strict=True)])
        for each in found.images
    ] == [(name, boxes) for name, (_, boxes) in scenes.items()]
    coco = {
        "images": [
            {"id": 10 + n, "file_name": f"elsewhere/{name}", "width": boxed.WIDE, "height": boxed.HIGH}
            for n, name in enumerate(scenes)
        ],
        "categories": [{"id": 7, "name": "square"}, {"id": 3, "name": "disc"}],
        "annotations": [
            {"id": 1, "image_id": 10 + n, "category_id": {1: 3, 2: 7}[label], "bbox": [x, y, r - x, b - y]}
            for n, (_, boxes) in enumerate(scenes.values())
            for x, y, r, b, label in boxes
        ],
    }
    coco["annotations"].append({"id": 2, "image_id": 10, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1})
    del files["boxes.csv"]
    other = collect(files | {"annotations/instances.json": json.dumps(coco), "notes.md": ""})
    assert (seen(other), other.classes) == (seen(found), found.classes)
    assert [name for name, _ in other.left_out] == ["notes.md"]


def test_splits_a_folder_above_and_classes_that_are_named() -> None:
    contents = {
        "street/images/train/a.png": picture(),
        "street/images/val/b.png": picture(),
        "street/boxes.csv": HEADER + "train/a.png,dog,1,2,30,40\nval/b.png,,,,,\n",
        "street/classes.txt": "cat\ndog\n",
    }
    found = collect(contents)
    assert seen(found) == [
        ("train/a.png", "train", ((1.0, 2.0, 30.0, 40.0),), (2,)),
        ("val/b.png", "validation", (), ()),
    ]
    assert found.classes == ("cat", "dog")
    with pytest.raises(BadBoxes, match=r"boxes\.csv:2: label: 'dog' is none of the 1 classes"):
        collect(contents | {"street/classes.txt": "cat\n"})


def test_an_image_is_measured_as_it_is_shown() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = {"images/a.jpg": picture(kind="JPEG", exif=exif)}
    found = collect(turned | {"boxes.csv": HEADER + "a.jpg,cat,0,0,48,64\n"})
    assert found.images[0].boxes == ((0, 0, 48, 64),)
    with pytest.raises(BadBoxes, match=r"boxes.csv:2: right 64 is not within 0..48, the image's width"):
        collect(turned | {"boxes.csv": HEADER + "a.jpg,cat,0,0,64,48\n"})
    collect(turned | {"boxes.csv": HEADER + "a.jpg,cat,0,0,64,48\n"}, measured=False)  # whoever reads it finds out
    sized = json.loads(coco())
    sized["images"][0] |= {"file_name": "a.jpg", "width": 64, "height": 48}
    with pytest.raises(BadBoxes, match=r"images\[0\]: 'a.jpg' has 64 x 48 pixels, it says; .* has 48 x 64 pixels"):
        collect(turned | {"annotations.json": json.dumps(sized)})


def test_the_rounding_of_annotations_is_forgiven() -> None:
    found = collect(table("a.png,cat,-0.01,2,64.01,48\n"))
    assert found.images[0].boxes == ((0, 2, 64, 48),)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (GOOD + "a.png,cat,1,2,65,40\n", "boxes.csv:3: right 65 is not within 0..64, the image's width"),
        ("a.png,cat,1,2,30,48.5\n", "boxes.csv:2: bottom 48.5 is not within 0..48, the image's height"),
        ("a.png,cat,-1,2,30,40\n", "boxes.csv:2: left -1 is not within 0..64"),
        ("a.png,cat,nan,2,30,40\n", "boxes.csv:2: nan, 2, 30, 40 are not four finite numbers"),
        ("a.png,cat,1,inf,30,40\n", "boxes.csv:2: 1, inf, 30, 40 are not four finite numbers"),
        ("a.png,cat,one,2,30,40\n", "boxes.csv:2: left: 'one' is not a number"),
        ("a.png,cat,,2,30,40\n", "boxes.csv:2: left: '' is not a number"),
        ("a.png,cat,30,2,30,40\n", "boxes.csv:2: 30, 2, 30, 40 has no area"),
        ("a.png,cat,1,40,30,2\n", "has no area"),
        ("a.png,cat,1,2,30\n", "boxes.csv:2: 5 values where there are 6 columns"),
        ("../a.png,cat,1,2,30,40\n", "boxes.csv:2: there is no image images/'../a.png'"),
        ("b.png,cat,1,2,30,40\n", "boxes.csv:2: there is no image images/'b.png'"),
        ("a.png,,1,2,30,40\n", "boxes.csv:2: label: the class '' is not a line"),
        ("a.png,background,1,2,30,40\n", "boxes.csv:2: label: the class 'background' cannot be that of an object"),
        ("a.png,,,,,\n", "no image has an object"),
        ("", "images of which boxes.csv says nothing: 'a.png'"),
        (GOOD * 2, "boxes.csv:3: the same box and label as boxes.csv:2"),
        (GOOD + "a.png,,,,,\n", "boxes.csv:3: 'a.png' is there already, in boxes.csv:2"),
        ("a.png,,,,,\n" + GOOD, "boxes.csv:3: 'a.png' is there already, in boxes.csv:2"),
        ("".join(f"a.png,cat,0,0,1,{n / 50 + 1}\n" for n in range(501)), "boxes.csv:502: 501 boxes are more than 500"),
        ("".join(f"a.png,c{n},0,0,9,9\n" for n in range(1000)), "1000 classes of objects; 1 to 999 are allowed"),
        ('a.png,"cat,1,2,30,40\n', "boxes.csv:2: 2 values where there are 6 columns"),
    ],
)
def test_hostile_tables_are_refused_with_their_place(lines: str, told: str) -> None:
    with pytest.raises((BadBoxes, BadFolder)) as caught:
        collect(table(lines))
    assert told in str(caught.value)


def coco(**changes: object) -> str:
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], **changes}
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [one],
    }
    return json.dumps(content)


def twice(part: str) -> str:
    content = json.loads(coco())
    content[part] *= 2
    return json.dumps(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "'annotations.json' is not JSON"),
        ("[]", "'annotations.json' is not an object with images"),
        ("{}", "'annotations.json' has no list categories"),
        (coco(bbox=[1, 2, 64, 40]), "annotations[0]: right 65 is not within 0..64"),
        (coco(bbox=[1, 2, 0, 40]), "annotations[0].bbox: width 0 is not more than 0"),
        (coco(bbox=[1, 2, 5, -4]), "annotations[0].bbox: height -4 is not more than 0"),
        (coco(bbox=[1, 2, float("nan"), 40]), "annotations[0].bbox: width nan is not more than 0"),
        (coco(bbox=[1, float("nan"), 3, 40]), "annotations[0]: 1, nan, 4, nan are not four finite numbers"),
        (coco(bbox=[1, 2, True, 40]), "annotations[0].bbox: True is not a number"),
        (coco(bbox=[1, 2, 10**400, 40]), "is not a number"),
        (coco(bbox=[1, 2, 3]), "annotations[0].bbox: [1, 2, 3] is not left, top, width, height"),
        (coco(bbox=None), "annotations[0].bbox: None is not left, top, width, height"),
        (coco(image_id=2), "annotations[0].image_id: 2 is not the id of one of 1 images"),
        (coco(category_id=9), "annotations[0].category_id: 9 is not the id of one of 1 categories"),
        (coco(category_id="cat"), "annotations[0].category_id is 'cat', not int"),
        (coco().replace('"file_name": "a.png"', '"file_name": 3'), "images[0].file_name is 3, not str"),
        (twice("images"), "images[1].id: 1 is there twice"),
        (twice("categories"), "categories[1].id: 1 is there twice"),
        (twice("annotations"), "annotations[1]: the same box and label as annotations.json: annotations[0]"),
    ],
)
def test_hostile_annotations_are_refused_with_their_place(content: str, told: str) -> None:
    with pytest.raises(BadBoxes) as caught:
        collect({"images/a.png": picture(), "annotations.json": content})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "told"),
    [
        ({"boxes.csv": HEADER}, "no PNG, JPEG or WebP file lies in a folder images/"),
        ({"images/a.png": picture()}, "there is neither boxes.csv nor annotations.json"),
        (table(GOOD) | {"annotations.json": coco()}, "there is both boxes.csv and annotations.json"),
        (table(GOOD) | {"images/a.png": b"\0" * 100}, "boxes.csv:2: 'a.png' is not a PNG, JPEG or WebP file"),
        (table(GOOD) | {"boxes.csv": b"\xff\xfe"}, "boxes.csv: is not UTF-8 text"),
        (
            table(GOOD) | {"boxes.csv": "path;label\n"},
            "boxes.csv:1: 'path;label' is not path,label,left,top",
        ),
        (table(GOOD) | {"boxes.csv": ""}, "boxes.csv:1: '' is not path,label"),
    ],
)
def test_folders_that_do_not_fit(contents: dict[str, bytes | str], told: str) -> None:
    with pytest.raises((BadBoxes, BadFolder)) as caught:
        collect(contents)
    assert told in str(caught.value)
