"""`ouzel sample`: photographs that anyone may use."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from skimage import data

from ouzel.cli.sample import sample
from ouzel.models import decode


def run(*arguments: object) -> Result:
    return CliRunner().invoke(sample, [str(each) for each in arguments])


@pytest.mark.parametrize(
    ("file", "options", "source"),
    [
        ("cat.png", (), data.chelsea),
        ("Coffee.png", (), data.coffee),
        ("any/where/else.png", (), data.chelsea),
        ("cat.png", ("--photo", "rocket"), data.rocket),
        ("astronaut.webp", (), data.astronaut),
        ("photographer.JPG", (), data.camera),
    ],
)
def test_a_photograph_is_written(tmp_path: Path, file: str, options: tuple[str, ...], source) -> None:
    done = run(tmp_path / file, *options)
    assert done.exit_code == 0, done.output
    height, width = source().shape[:2]
    assert f"{width} x {height}" in done.output
    assert "CC0" in done.output or "public domain" in done.output
    pixels = np.asarray(decode((tmp_path / file).read_bytes()))
    assert np.abs(pixels.astype(int) - source()).mean() < (4 if file.endswith(("JPG", "webp")) else 1e-9)


def test_the_list_has_each_once_with_its_licence_and_size() -> None:
    photographs = json.loads(run("--list", "--json").output)
    assert [each["name"] for each in photographs] == ["cat", "coffee", "rocket", "astronaut", "photographer"]
    for each in photographs:
        assert getattr(data, each["source"])().shape[:2] == (each["height"], each["width"])
        assert each["licence"].startswith(("CC0", "public domain"))
    shown = run("--list").output
    assert all(each["name"] in shown for each in photographs)


def test_another_picture_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    Image.new("L", (9, 9)).save(file)
    before = file.read_bytes()
    refused = run(file)
    assert refused.exit_code == 1
    assert "--force" in refused.output
    assert file.read_bytes() == before
    assert run(file, "--force").exit_code == 0
    assert run(file).exit_code == 0  # the same again is no loss


@pytest.mark.parametrize(("arguments", "said"), [((), "name the file"), (("cat.gif",), "'.gif'"), (("cat",), ".jpg")])
def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch, arguments: tuple[str, ...], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code != 0
    assert said in done.output
    assert not list(tmp_path.iterdir())


def test_without_scikit_image_a_line_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    usual = builtins.__import__

    def lacking(name: str, *rest, **more):
        if name.startswith("skimage"):
            raise ModuleNotFoundError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    for name in [each for each in sys.modules if each.startswith("skimage")]:
        monkeypatch.delitem(sys.modules, name)
    done = run(tmp_path / "cat.jpg")
    assert done.exit_code == 1
    assert done.output.strip().splitlines() == [
        "Error: sample: the photographs come with scikit-image, which is not installed: pip install 'ouzel[trust]'"
    ]
