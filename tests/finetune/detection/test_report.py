"""The report of a detector: its figures, its pictures, and texts from strangers that stay texts."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ouzel.finetune import make_recipe
from ouzel.finetune.detection import Detected, Objects, boxed_from_folder, detect
from ouzel.finetune.detection.comparison import Beside, beside_found
from ouzel.finetune.detection.report import detection_files, make_detection_report, write_detection_report
from ouzel.finetune.detection.score import box_score
from support import boxed

HOSTILE = '<script>alert("x")</script>'
FAST = {"frozen_epochs": 1, "epochs": 0, "batch_size": 4, "held_out": 0.5, "validation": 0.2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Detected:
    examples, _ = boxed_from_folder(boxed.write(tmp_path_factory.mktemp("boxed") / "data"))
    return detect(boxed.base(), examples, (HOSTILE, "square"), make_recipe("detect", FAST), image_size=64)


def as_found(made: Detected, found: list[Objects]) -> Detected:
    """The same, if this had been found."""
    return dataclasses.replace(made, found=tuple(found), test=box_score(made.there, found, 2))


def perfect(made: Detected) -> list[Objects]:
    return [Objects(each.boxes, each.labels, np.full(len(each.labels), 0.9)) for each in made.there]


def written(made: Detected, served: Beside | None = None) -> tuple[dict[str, bytes], dict[str, Any]]:
    report = make_detection_report(boxed.base(), made, served)
    files = {name: content for name, (_, content) in detection_files(report, "shapes@1", {"base": "base"}).items()}
    return files, json.loads(files["report.json"])


def test_figures_and_pictures(made: Detected, tmp_path: Path) -> None:
    files, figures = written(made)
    assert (figures["map"], figures["map50"]) == (made.test.map, made.test.map50)
    assert (figures["labels"], figures["objects"]) == ([HOSTILE, "square"], list(made.test.objects))
    images = json.loads(files["images.json"])
    assert [each["image"] for each in images] == [each.name for each in made.split.test]
    assert [each["objects"] for each in images] == [len(each.labels) for each in made.there]
    page = files["report.html"].decode()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    for name in ("http://", "https://", 'src="/'):
        assert name not in page.replace("http://www.w3.org", "")
    pictures = [name for name in files if name.startswith("worst/")]
    assert pictures
    with Image.open(io.BytesIO(files[pictures[0]])) as drawn:
        assert drawn.size == (384, 288)  # the proportions of the image
    path = write_detection_report(make_detection_report(boxed.base(), made), tmp_path)
    assert path.read_text().startswith("<!doctype html>")


def test_the_worst_images_come_first_and_perfect_ones_not_at_all(made: Detected) -> None:
    found = perfect(made)
    empty = next(number for number, each in enumerate(made.there) if not len(each.labels))
    full = next(number for number, each in enumerate(made.there) if len(each.labels))
    found[empty] = Objects(np.array([[5.0, 5.0, 40.0, 40.0]]), np.array([2]), np.array([0.8]))
    found[full] = Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))
    report = make_detection_report(boxed.base(), as_found(made, found))
    names = [each.name for each in made.split.test]
    assert [each.name for each in report.worst] == [names[full], names[empty]]
    assert [each.rating for each in report.worst] == pytest.approx([0, 0.2])
    assert report.worst[0].looks is None
    assert report.worst[0].looked_for == "nothing was found"
    assert report.worst[1].looked_for == "square 0.80"
    # What was found is drawn, and nothing else is.
    plain, drawn = report.worst[1].truth, report.worst[1].found
    changed = np.argwhere((plain != drawn).any(2))
    scale = 384 / boxed.WIDE
    assert changed.min(0) == pytest.approx([5 * scale, 5 * scale], abs=24)
    assert changed.max(0) == pytest.approx([40 * scale, 40 * scale], abs=24)


def test_beside_the_version_that_was_served(made: Detected) -> None:
    found = perfect(made)
    better = as_found(made, found)
    worse = [Objects(each.boxes + 4, each.labels, each.scores) for each in found]
    served = beside_found("shapes@1", worse, better)
    assert served.map is not None
    assert 0 < served.map < 1
    assert served.gain is not None
    gain, low, high = served.gain
    assert gain == pytest.approx(1 - served.map)
    assert low <= gain <= high
    files, figures = written(better, served)
    assert (figures["served_model"], figures["served_map"]) == ("shapes@1", served.map)
    assert "shapes@1, served until now, has" in files["report.html"].decode()
    files, _ = written(better, Beside("old@3", problem="it is a classifier"))
    assert "Not compared with old@3, which was served until now: it is a classifier." in files["report.html"].decode()
