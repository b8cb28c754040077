"""The figures of the lecture: all of them are on the page, small, and made of what they say."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "lecture"
MOST_BYTES = 150_000


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of the lecture, which finds its neighbours."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in {path.stem for path in FOLDER.glob("*.py")} - before:
        sys.modules.pop(name, None)


def test_every_figure_has_a_script_a_picture_and_a_place_on_the_page(script: Callable[[str], ModuleType]) -> None:
    names = script("everything").FIGURES
    page = (ROOT / "docs" / "lecture.md").read_text()
    assert {path.stem for path in FOLDER.glob("*.py")} == {*names, "common", "everything"}
    shown = set(re.findall(r"!\[[^]]+\]\(lecture/([\w.]+)\)", page))
    assert {Path(name).stem for name in shown} == set(names)
    assert shown == {path.name for path in (ROOT / "docs" / "lecture").iterdir()}
    for name in names:
        assert f"python examples/lecture/{name}.py" in page
    for path in (ROOT / "docs" / "lecture").iterdir():
        assert path.stat().st_size <= MOST_BYTES, path


def test_a_picture_that_is_hard_to_compress_is_small_all_the_same(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    common = script("common")
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    common.sheet(tmp_path / "noise.jpg", [[common.Tile(noise, str(n)) for n in range(4)]], inches=3.0)
    assert (tmp_path / "noise.jpg").stat().st_size <= MOST_BYTES


def test_what_is_learnt_from_is_balanced_and_not_measured_on(script: Callable[[str], ModuleType]) -> None:
    transfer = script("transfer")
    classes = torch.arange(10).repeat_interleave(20)
    order = transfer.balanced(classes, 3)
    assert sorted(order) == list(range(200))
    for count in (30, 100):
        assert torch.bincount(classes[order[:count]], minlength=10).tolist() == [count // 10] * 10
    images = torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    train, test = (transfer.examples(images, classes, rows, "") for rows in (order[:100], order[-100:]))
    assert not {each.sha256 for each in train} & {each.sha256 for each in test}
    assert [int(each.label) for each in train] == classes[order[:100]].tolist()
    assert transfer.balanced(classes, 4) != order


@pytest.mark.parametrize("count", [30, 100, 300, 1000, 4000])
def test_every_number_of_images_is_learnt_from_in_about_as_many_steps(
    script: Callable[[str], ModuleType], count: int
) -> None:
    transfer = script("transfer")
    epochs = transfer.values("scratch", count, 300)["epochs"]
    assert 200 <= epochs * -(-int(0.8 * count) // transfer.BATCH) <= 450
