from __future__ import annotations

import pytest

from ouzel import models
from ouzel.errors import InvalidArgument, NotFound

LABELS = ("tench", "Egyptian cat", "crane", "maillot", "crane", "Crab", "crab")


def test_imagenet_has_a_thousand():
    labels = models.read_labels("imagenet")
    assert (len(labels), labels[0], labels[285], labels[999]) == (1000, "tench", "Egyptian cat", "toilet tissue")


def test_from_a_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffa\r\n b \nGrüße\n\n".encode())
    assert models.read_labels(path) == models.read_labels(str(path)) == ("a", "b", "Grüße")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"a\n\nb\n", b"\xff\xfe\x00", b"a\x00b", b"x" * 201])
def test_bad_files(tmp_path, content):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="labels"):
        models.read_labels(path)


def test_missing_file(tmp_path):
    with pytest.raises(NotFound, match=r"none\.txt"):
        models.read_labels(tmp_path / "none.txt")


@pytest.mark.parametrize("labels", [[], [""], [" "], ["a", 3], [None]])
def test_bad_sequences(labels):
    with pytest.raises(InvalidArgument, match="labels"):
        models.read_labels(labels)


@pytest.mark.parametrize(
    ("text", "index"), [("tench", 0), ("TENCH", 0), ("egyptian CAT", 1), ("Crab", 5), ("crab", 6), ("maillot", 3)]
)
def test_index_of_a_label(text, index):
    assert models.label_index(LABELS, text) == index


@pytest.mark.parametrize(("text", "indices"), [("crane", "2, 4"), ("CRANE", "2, 4"), ("CRAB", "5, 6")])
def test_an_ambiguous_label_names_its_indices(text, indices):
    with pytest.raises(InvalidArgument, match=indices):
        models.label_index(LABELS, text)


def test_an_unknown_label_brings_close_ones():
    with pytest.raises(InvalidArgument, match="'Egyptian cat'"):
        models.label_index(LABELS, "egyptian cut")
    with pytest.raises(InvalidArgument, match="no class 'zzz'"):
        models.label_index(LABELS, "zzz")
