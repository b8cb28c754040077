"""Archives are checked before anything is started."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from ouzel.errors import InvalidArgument, NotFound
from ouzel.torchserve.archives import Archive, archives, unloaded


def write(path: Path, manifest: object = None, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        if manifest is not None:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        for member in members:
            archive.writestr(member, b"x" * 100)
    return path


GOOD = {"model": {"modelVersion": "1.2"}}


def test_all_or_named_ones_in_order(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.mar", GOOD), write(tmp_path / "b.mar", GOOD)
    (tmp_path / "notes.txt").write_text("not a model")
    write(tmp_path / ".half.mar", GOOD)
    assert archives(tmp_path) == (Archive("a", "1.2", a), Archive("b", "1.2", b))
    assert archives(tmp_path, ["b"]) == (Archive("b", "1.2", b),)
    assert archives(tmp_path, ["b", "a", "b"]) == archives(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no model store"):
        archives(tmp_path / "none")
    with pytest.raises(NotFound, match="holds no model"):
        archives(tmp_path)
    write(tmp_path / "a.mar", GOOD)
    with pytest.raises(NotFound, match=r"no model 'c' in .* it holds a"):
        archives(tmp_path, ["c"])


@pytest.mark.parametrize(
    ("manifest", "members", "reason"),
    [
        (None, ["toy.py"], "MAR-INF/MANIFEST.json"),
        ([], [], "list indices"),
        ({"model": {}}, [], "modelVersion"),
        (GOOD, ["../escape.py"], "would leave its folder"),
        (GOOD, ["/absolute.py"], "would leave its folder"),
        (GOOD, ["a\\..\\b.py"], "would leave its folder"),
    ],
)
def test_broken_archives(manifest: object, members: list[str], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mar", manifest, *members)
    with pytest.raises(InvalidArgument, match=reason) as caught:
        archives(tmp_path)
    assert str(path) in str(caught.value)


def test_damaged_archives(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mar", GOOD, "weights")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(b"x" * 100) + 50] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"", b"not a zip"):
        path.write_bytes(damaged)
        with pytest.raises(InvalidArgument, match="is not a model archive"):
            archives(tmp_path)


def test_names_that_cannot_be_served(tmp_path: Path) -> None:
    write(tmp_path / "a,b=c.mar", GOOD)
    with pytest.raises(InvalidArgument, match="only letters"):
        archives(tmp_path)


def test_the_default_and_the_newest_versions_are_loaded(tmp_path: Path) -> None:
    for version in ("1", "2", "9", "10", "11"):
        write(tmp_path / f"a@{version}.mar", {"model": {"modelVersion": version}})
    write(tmp_path / "b.mar", GOOD)
    (tmp_path / "a.default").write_text("2")
    loaded = {
        most: [(each.name, each.version) for each in archives(tmp_path, most=most)] for most in (1, 2, 3, 5, 6, None)
    }
    assert loaded[1] == [("a", "2"), ("b", "1.2")]
    assert loaded[2] == [("a", "2"), ("a", "11"), ("b", "1.2")]
    assert loaded[3] == [("a", "2"), ("a", "10"), ("a", "11"), ("b", "1.2")]
    assert loaded[5] == loaded[6] == loaded[None]
    assert [version for name, version in loaded[5] if name == "a"] == ["2", "1", "9", "10", "11"]
    (tmp_path / "a.default").write_text("11")  # the newest itself: the one before it, to go back to
    assert [each.version for each in archives(tmp_path, ["a"], 2)] == ["11", "10"]
    rest = unloaded(tmp_path, ["a"], archives(tmp_path, ["a"], 2))
    assert rest == (("a", "1"), ("a", "2"), ("a", "9"))


def test_a_damaged_version_that_is_not_loaded_does_no_harm(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        write(tmp_path / f"a@{version}.mar", {"model": {"modelVersion": version}})
    (tmp_path / "a.default").write_text("3")
    (tmp_path / "a@1.mar").write_bytes(b"damaged")
    assert [each.version for each in archives(tmp_path, most=2)] == ["3", "2"]
    with pytest.raises(InvalidArgument, match=r"a@1\.mar is not a model archive"):
        archives(tmp_path)
