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
