"""A version that is removed from the store is served no more: what TorchServe is asked, and in which order."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, cast

import pytest

from ouzel.errors import FailedPrecondition
from ouzel.model_files import ModelFiles
from ouzel.torchserve import publication, withdrawal
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
    monkeypatch.setattr(withdrawal, "versions", lambda _s, _n: [{"modelVersion": each} for each in ("2", "3")])
    monkeypatch.setattr(withdrawal, "default_of", lambda _s, _n: "2")
    for module in (publication, withdrawal):
        monkeypatch.setattr(module, "set_default", lambda _s, *words: calls.append(("default", *words)))
    monkeypatch.setattr(withdrawal, "unregister", lambda _s, *words: calls.append(("unregister", *words)))
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


@pytest.mark.parametrize("server", [SERVER, None])
def test_the_next_default_is_recorded(store: ModelFiles, asked: list[Any], server: Server | None) -> None:
    heard: list[tuple[str, str]] = []
    publication.withdraw_served(
        server, store, store.file("m@2"), record=lambda kind, facts: heard.append((kind, facts["version"]))
    )
    assert heard == [("deletion", "2"), ("promotion", "3" if server else "1")]
    assert store.default("m") == heard[1][1]


def test_nothing_is_left_of_the_last_one(store: ModelFiles) -> None:
    for version in "213":
        publication.withdraw_served(None, store, store.file(f"m@{version}"))
    assert names(store) == []


def test_what_is_still_served_stays(store: ModelFiles, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PublicationFailed("it cannot be unregistered")

    monkeypatch.setattr(withdrawal, "unregister", refuse)
    before = names(store)
    with pytest.raises(PublicationFailed):
        publication.withdraw_served(SERVER, store, store.file("m@3"))
    assert names(store) == before


def held_back(store: ModelFiles, *versions: str) -> None:
    """Gates have refused these versions, and nobody has promoted one."""
    for version in versions:
        with zipfile.ZipFile(store.folder / f"m@{version}.mar", "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", f'{{"model": {{"modelVersion": "{version}"}}}}')
            described = '{"weights": {"digest": "d"}, "labels": ["a"], "arch": "x", '
            archive.writestr("model.json", described + '"lineage": {"gate": {"passed": false}}}')
    (store.folder / "m.default").unlink()


def test_with_the_default_go_those_that_gates_held_back(store: ModelFiles, asked: list[Any]) -> None:
    """Without it TorchServe would take one of them for the default."""
    store.discard(store.file("m@1"))
    held_back(store, "3")
    publication.withdraw_served(SERVER, store, store.file("m@2"))
    assert asked == [("unregister", "m", "3"), ("unregister", "m", "2")]
    assert [file.version for file in store.of("m")] == ["3"]


def test_without_a_default_nothing_is_loaded_but_what_is_promoted(
    store: ModelFiles, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_back(store, "1", "2", "3")
    loaded: list[str] = []

    def register(_server: Server, _name: str, version: str, *_: object) -> bool:
        loaded.append(version)
        return True

    monkeypatch.setattr(publication, "versions", lambda _s, _n, v="": [each for each in loaded if v in ("", each)])
    monkeypatch.setattr(publication, "default_of", lambda _s, _n: loaded[0] if loaded else "")
    monkeypatch.setattr(publication, "register", register)
    monkeypatch.setattr(publication, "check", lambda *_: None)
    monkeypatch.setattr(publication, "settings_of", lambda *_: publication.Settings())
    monkeypatch.setattr(publication, "smoke", lambda *_, **__: "d")
    monkeypatch.setattr(publication.retention, "trim", lambda *_, **__: ())
    monkeypatch.setattr(publication.pool, "answers_for", lambda *_: False)
    assert publication.publish_model(SERVER, store, "m", "3") is False
    with pytest.raises(FailedPrecondition, match="m 3 was held back by its gate"):
        publication.load_served(SERVER, store, store.file("m@3"))
    assert loaded == []
    publication.promote_served(SERVER, store, "m", "2")
    assert loaded == ["2"]
    assert store.default("m") == "2"
    assert publication.publish_model(SERVER, store, "m", "3") is True  # beside a default it can be asked for by number
    assert loaded == ["2", "3"]
