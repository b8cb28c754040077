"""Which mask belongs to which image, in every layout; COCO against pycocotools' own reading."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks

from ouzel_protos import label_maps, mask_folders
from ouzel_protos.folders import BadFolder
from ouzel_protos.label_maps import BadMask
from support.masked import CLASSES, files, png, reads, scene

PIXELS, LABELS = scene(0)
IMAGE, LABEL_MAP = png(PIXELS), label_maps.write(LABELS)
SIZE = PIXELS.shape[1::-1]


def collected(contents: dict[str, bytes]) -> mask_folders.MaskedImages:
    return mask_folders.collect(reads(contents))


def labels_of(found: mask_folders.MaskedImages, number: int = 0) -> np.ndarray:
    return label_maps.read(found.images[number].read_label_map(), SIZE, len(found.classes))


@pytest.mark.parametrize("shared", ["", "pets/", "a/b/"])
@pytest.mark.parametrize("place", ["images/{split}/{name}", "{split}/images/{name}"])
def test_label_maps_with_splits(shared: str, place: str) -> None:
    contents = {f"{shared}classes.txt": b"background\nsquare\ndisc\n", f"{shared}README": b""}
    for split in ("Training", "val", "test_set"):
        contents[shared + place.format(split=split, name="deep/x.jpg")] = IMAGE
        contents[shared + place.replace("images", "masks").format(split=split, name="deep/x.png")] = LABEL_MAP
    found = collected(contents)
    assert found.classes == CLASSES
    assert [each.split for each in found.images] == ["train", "test", "validation"]
    assert found.images[0].path == "Training/deep/x.jpg"
    assert [name for name, _ in found.left_out] == [f"{shared}README"]
    assert np.array_equal(labels_of(found), LABELS)


@pytest.mark.parametrize("split", ["", "train/"])
def test_a_mask_for_each_class(split: str) -> None:
    contents = {f"images/{split}x.jpg": IMAGE}
    contents |= {f"masks/{split}disc/x.png": png((LABELS == 2).astype(np.uint8) * 255)}
    contents |= {f"masks/{split}square/x.png": png(LABELS == 1)}  # of one bit
    found = collected(contents)
    assert found.classes == ("background", "disc", "square")
    assert np.array_equal(labels_of(found), np.array([0, 2, 1], np.uint8)[LABELS])


def test_masks_of_one_class_that_are_none() -> None:
    first, second = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    first[3:9, 4:9], second[8:12, 8:12] = 1, 255
    contents = {"images/x.jpg": IMAGE, "masks/a/x.png": png(first), "masks/b/x.png": png(second)}
    with pytest.raises(BadMask, match=r"'masks/b/x.png' overlaps 'masks/a/x.png' in 1 pixels, as at x = 8, y = 8"):
        labels_of(collected(contents))
    second[8, 8] = 7
    with pytest.raises(BadMask, match=r"'masks/b/x.png' has the values 0, 7, 255; a mask of one class"):
        labels_of(collected(contents | {"masks/b/x.png": png(second)}))
    with pytest.raises(BadMask, match=r"'masks/b/x.png' has 20 x 40 pixels"):
        labels_of(collected(contents | {"masks/b/x.png": png(first[:, :20])}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images/y.jpg": IMAGE}, "images without a mask: 'y.jpg'"),
        ({"masks/y.png": LABEL_MAP}, "masks without an image: 'masks/y.png'"),
        ({"images/0.webp": IMAGE}, "'0.png' and '0.webp' would have the same mask"),
        ({"images/train/z.jpg": IMAGE}, "'0.png' lies in none of the splits 'train'"),
        ({"annotations.json": b"{}"}, "masks of two kinds"),
    ],
)
def test_what_does_not_belong_together(change: dict[str, bytes], words: str) -> None:
    with pytest.raises(BadFolder, match=words):
        collected(files(2) | change)


def test_folders_without_masks_or_classes() -> None:
    with pytest.raises(BadFolder, match="no PNG, JPEG or WebP file lies in a folder images/"):
        collected({"cat/1.jpg": IMAGE})
    with pytest.raises(BadFolder, match="neither masks/ nor annotations"):
        collected({"images/1.jpg": IMAGE})
    with pytest.raises(BadFolder, match=r"label maps need classes\.txt"):
        collected({"images/1.jpg": IMAGE, "masks/1.png": LABEL_MAP})
    with pytest.raises(BadMask, match="not text in UTF-8"):
        collected(files(1) | {"classes.txt": b"\xff\xfea"})
    with pytest.raises(BadFolder, match="images without a mask"):  # one that lost its lossless form is no mask
        collected({name: each for name, each in files(2).items() if name != "masks/1.png"} | {"masks/1.jpg": IMAGE})


def coco(regions: list[tuple[int, Any]], **changes: Any) -> bytes:
    values = {
        "images": [{"id": 5, "file_name": "x.jpg", "width": 40, "height": 40}],
        "categories": [{"id": 90, "name": "disc"}, {"id": 3, "name": "square"}],
        "annotations": [
            {"id": n, "image_id": 5, "category_id": kind, "segmentation": each}
            for n, (kind, each) in enumerate(regions)
        ],
    }
    return json.dumps(values | changes).encode()


def runs_of(mask: np.ndarray) -> list[int]:
    """Lengths of runs down the columns, outside first: by the plainest way."""
    runs, value = [0], 0
    for pixel in mask.T.flatten().tolist():
        if pixel != value:
            runs, value = [*runs, 0], pixel
        runs[-1] += 1
    return runs


def test_polygons_and_runs_are_pycocotools() -> None:
    polygon = [2.5, 3.0, 20.2, 4.0, 15.0, 25.5, 3.0, 18.0]
    disc = (LABELS == 2).astype(np.uint8)
    packed = masks.encode(np.asfortranarray(disc))["counts"].decode()
    expected = masks.decode(masks.merge(masks.frPyObjects([polygon], 40, 40)))
    for counts in (packed, runs_of(disc)):
        contents = {
            "images/x.jpg": IMAGE,
            "annotations/instances.json": coco([(3, [polygon]), (90, {"size": [40, 40], "counts": counts})]),
        }
        found = collected(contents)
        assert found.classes == ("background", "square", "disc")
        labels = labels_of(found)
        both = (expected > 0) & (disc > 0)
        assert np.array_equal(labels, np.where(both, 255, np.where(expected > 0, 1, np.where(disc > 0, 2, 0))))


def test_packed_runs_of_many_masks() -> None:
    from ouzel_protos.coco import AnnotatedImage, Annotations, draw

    chance = np.random.default_rng(0)
    for _ in range(40):
        height, width = (int(edge) for edge in chance.integers(1, 90, 2))
        mask = (chance.random((height, width)) > chance.random()).astype(np.uint8)
        counts = masks.encode(np.asfortranarray(mask))["counts"].decode()
        image = AnnotatedImage("x", width, height, (0, 0))
        regions = {(0, 0): [(1, {"size": [height, width], "counts": counts})]}
        assert np.array_equal(draw(Annotations((image,), ("a",), regions), image), mask)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ([[1, 2, 3]], "a polygon has 3 numbers"),
        ([[0, 0, 1e9, 0, 5, 5]], "a corner at 1e.09 lies far outside"),
        ([[0, 0, float("nan"), 0, 5, 5]], "a corner at nan"),
        ([["a", 0, 1, 0, 5, 5]], "neither polygons nor runs"),
        ({"size": [40, 40], "counts": [10, 10]}, "the runs have 20 pixels together; the image has 1600"),
        ({"size": [40, 40], "counts": [1700, -100]}, "a run is not an integer of 0 or more"),
        ({"size": [4000, 4000], "counts": "x"}, "runs of 4000 x 4000 pixels; the image has 40 x 40"),
        ({"size": [40, 40], "counts": "\x7f\x80"}, "packed runs"),
        ({"size": [40, 40], "counts": "PPPP`"}, "packed runs end|not an integer"),
    ],
)
def test_regions_that_cannot_be_drawn(region: Any, words: str) -> None:
    found = collected({"images/x.jpg": IMAGE, "annotations.json": coco([(3, region)])})
    with pytest.raises(BadMask, match=f"'x.jpg': .*{words}|{words}"):
        labels_of(found)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[1]", "not an object with images"),
        (b"{", "not JSON"),
        (coco([], images=[{"id": 5, "file_name": "x.jpg", "width": 0, "height": 40}]), "0 x 40 pixels"),
        (coco([], categories=[{"id": "3", "name": "a"}]), r"categories\[0\].id is '3', not int"),
        (coco([(7, [[0, 0, 1, 0, 1, 1]])]), "category_id 7, which there is not"),
        (coco([(3, [])]), "no segmentation"),
    ],
)
def test_annotations_that_are_none(content: bytes, words: str) -> None:
    with pytest.raises(BadMask, match=words):
        collected({"images/x.jpg": IMAGE, "annotations.json": content})


def test_annotations_of_other_images() -> None:
    with pytest.raises(BadFolder, match=r"of 'x.jpg', and there are no image"):
        collected({"images/y.jpg": IMAGE, "annotations.json": coco([])})
    with pytest.raises(BadFolder, match=r"images without annotations: 'y.jpg'"):
        collected({"images/x.jpg": IMAGE, "images/y.jpg": IMAGE, "annotations.json": coco([])})
