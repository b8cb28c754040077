"""A version that is removed from the store is served no more: what TorchServe is asked, and in which order."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, cast

import pytest

from ouzel.model_files import ModelFiles
from ouzel.torchserve import publication
from ouzel.torchserve.publication import PublicationFailed, Server

SERVER = cast(Server, object())


@pytest.fixture
def store(tmp_path: Path) -> ModelFiles:
    """Versions 1 to 3 of `m`, the second of which is the default."""
    for version in "123":
        with zipfile.ZipFile(tmp_path / f"m@{version}.mar", "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", f'{{"model": {{"modelVersion": "{version}"}}}}')
            archive.writestr("model.json", '{"weights": {"digest": "d"}, "labels": ["a"], "arch": "x", "lineage": {}}')
    files = ModelFiles(tmp_path)
    files.promote("m", "2")
    return files


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """TorchServe serves versions 2 and 3."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(publication, "versions", lambda _s, _n: [{"modelVersion": each} for each in ("2", "3")])
    monkeypatch.setattr(publication, "default_of", lambda _s, _n: "2")
    monkeypatch.setattr(publication, "set_default", lambda _s, *words: calls.append(("default", *words)))
    monkeypatch.setattr(publication, "unregister", lambda _s, *words: calls.append(("unregister", *words)))
    return calls


def names(store: ModelFiles) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


@pytest.mark.parametrize(
    ("version", "calls"),
    [
        ("1", []),  # is not served
        ("2", [("default", "m", "3"), ("unregister", "m", "2")]),
        ("3", [("unregister", "m", "3")]),
    ],
)
def test_one_of_several(store: ModelFiles, asked: list[Any], version: str, calls: list[Any]) -> None:
    publication.withdraw_served(SERVER, store, store.file(f"m@{version}"))
    assert asked == calls
    assert [file.version for file in store.of("m")] == [each for each in "123" if each != version]


def test_nothing_is_left_of_the_last_one(store: ModelFiles) -> None:
    for version in "213":
        publication.withdraw_served(None, store, store.file(f"m@{version}"))
    assert names(store) == []


def test_what_is_still_served_stays(store: ModelFiles, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PublicationFailed("it cannot be unregistered")

    monkeypatch.setattr(publication, "unregister", refuse)
    before = names(store)
    with pytest.raises(PublicationFailed):
        publication.withdraw_served(SERVER, store, store.file("m@3"))
    assert names(store) == before
