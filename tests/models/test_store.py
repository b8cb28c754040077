from __future__ import annotations

import shutil

import pytest

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.models.store import Entry, ModelStore


@pytest.fixture
def store(tiny_archive, tmp_path) -> ModelStore:
    shutil.copy(tiny_archive, tmp_path / "tiny.mar")
    (tmp_path / "broken.mar").write_bytes(b"junk")
    (tmp_path / ".half.mar").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    return ModelStore(tmp_path)


def test_list(store, tiny_archive):
    broken, tiny = store.list()
    assert tiny == Entry(
        "tiny",
        tiny_archive.stat().st_size,
        "1",
        "timm:test_resnet",
        models.load(tiny_archive).digest,
        10,
        is_default=True,
    )
    assert (broken.name, broken.size, broken.arch) == ("broken", 4, "")
    assert "not a sound zip file" in broken.error


def test_a_folder_that_is_not_there_is_empty(tmp_path):
    assert ModelStore(tmp_path / "none").list() == ()


def test_show(store):
    details = store.show("tiny")
    assert details.entry.name == details.card["name"] == "tiny"
    assert details.layers[-1] == models.Layer("fc", "Linear", (10,))
    with pytest.raises(FailedPrecondition, match=r"broken\.mar"):
        store.show("broken")


def test_remove(store):
    store.remove("broken")
    assert [entry.name for entry in store.list()] == ["tiny"]
    with pytest.raises(NotFound, match=r"no model 'broken' in .*, which holds tiny"):
        store.remove("broken")


@pytest.mark.parametrize("name", ["../tiny", "a/../tiny", "/tmp/tiny", "..", "", "Tiny", "tiny.mar/"])
@pytest.mark.parametrize("method", ["show", "remove", "find"])
def test_names_with_a_path_are_refused(store, method, name):
    with pytest.raises(InvalidArgument, match="name: "):
        getattr(store, method)(name)
