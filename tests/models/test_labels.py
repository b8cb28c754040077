from __future__ import annotations

import json
import logging

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


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"a\n\nb\n", b"\xff\xfe\x00", b"a\x00b", b"x" * 201, "a\u2028b".encode(), b"a\x0bb"]
)
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


@pytest.mark.parametrize("text", ["Caf\u00e9", "Cafe\u0301", "CAFE\u0301", "label:Cafe\u0301"])
@pytest.mark.parametrize("label", ["Caf\u00e9", "Cafe\u0301"])
def test_composed_and_decomposed_labels_are_one(label, text):
    assert models.read_labels([label, "dog"]) == ("Caf\u00e9", "dog")
    assert models.label_index([label, "dog"], text) == 0


@pytest.mark.parametrize("label", ["نی\u200cلبک", "ශ්\u200dරී", "👩\u200d🔬", "全角\u3000空白", "a\u00a0b"])
def test_labels_of_all_scripts(label, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text(f"{label}\nb\n", encoding="utf-8")
    assert models.read_labels(path) == models.read_labels([label, "b"]) == (label, "b")


@pytest.mark.parametrize(
    ("labels", "text", "told"),
    [
        (("1", "10", "2"), "1", ("'label:1' (class 0, '1')", "'index:1' (class 1, '10')")),
        (("index:1", "cat"), "index:1", ("'label:index:1' (class 0, 'index:1')", "'label:cat' (class 1, 'cat')")),
        (("label:a", "a"), "label:a", ("'label:label:a' (class 0, 'label:a')", "'index:1' (class 1, 'a')")),
        (("cat", "dog"), "2", ("no class '2'", "index in 0..1")),
        (("cat", "dog"), "index:2", ("no class 'index:2'", "index in 0..1")),
        (("cat", "dog"), "label:dgo", ("no class 'label:dgo'", "did you mean 'dog'")),
        (("cat", "dog"), "\ud800", (r"no class '\ud800'",)),
    ],
)
def test_what_has_no_one_reading_is_refused(labels, text, told):
    with pytest.raises(InvalidArgument) as caught:
        models.label_index(labels, text)
    assert all(part in str(caught.value) for part in told)
    assert str(caught.value).encode()


def test_what_an_error_advises_works():
    """Each way that is told for an ambiguous text leads to the class that is told with it."""
    for labels in (("1", "10", "2"), ("index:1", "cat"), ("label:a", "a"), ("2", "x", "y"), ("index:1", "1", "0")):
        for text in (*labels, "1", "index:1", "label:1"):
            try:
                models.label_index(labels, text)
            except InvalidArgument as error:
                for part in str(error).partition("read as ")[2].split(" or ") if "read as" in str(error) else ():
                    way, _, of = part.partition(" (class ")
                    assert models.label_index(labels, way.strip("'")) == int(of.partition(",")[0])


def test_labels_of_classes_that_have_none():
    assert models.label_index((), "3", 5) == models.label_index((), "index:3", 5) == 3
    with pytest.raises(InvalidArgument, match=r"0\.\.4"):
        models.label_index((), "5", 5)


def test_all_classes_of_a_shared_label():
    assert models.label_indices(LABELS, "CRANE") == models.label_indices(LABELS, "label:crane") == (2, 4)
    assert models.label_indices(LABELS, "4") == (4,)
    with pytest.raises(InvalidArgument, match="5, 6"):
        models.label_indices(LABELS, "CRAB")


@pytest.mark.parametrize(
    "content",
    [
        {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]},
        {"1": "goldfish", "0": "tench"},
        {"0": "tench", "1": ["n01443537", "gold\u0066ish"]},
        {"object_type_names": ["tench", "goldfish"]},
        ["tench", "goldfish"],
    ],
)
def test_index_to_name_of_torchserve(tmp_path, content):
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert models.read_labels(path) == ("tench", "goldfish")


def test_ten_labels_of_json_are_in_the_order_of_numbers(tmp_path):
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps({str(i): f"class {i}" for i in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9, 11)}))
    assert models.read_labels(path) == tuple(f"class {i}" for i in range(12))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"1": "a", "2": "b"}', "lacks '0'"),
        ('{"0": "a", "01": "b"}', "lacks '1'"),
        ('{"tench": 0, "goldfish": 1}', "lacks '0'"),
        ('{"0": "a", "0": "b"}', "'0' comes twice"),
        ('{"0": "a", "1": []}', "labels[1]"),
        ('{"0": "a", "1": 3}', "labels[1]"),
        ('{"0": "a", "1": "\\ud800"}', "labels[1]"),
        ('{"0": "a"', "is not JSON"),
        ('"a"', "neither a JSON object nor a list"),
        ("{}", "there are none"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_other_json_is_refused(tmp_path, content, told):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match="labels") as caught:
        models.read_labels(path)
    assert told in str(caught.value)


def test_spaces_around_labels_are_told(tmp_path, caplog):
    path = tmp_path / "labels.txt"
    path.write_text("cat\n dog\nowl\u3000\n")
    with caplog.at_level(logging.WARNING):
        assert models.read_labels(["cat", "dog"]) == ("cat", "dog")
        assert not caplog.records
        assert models.read_labels(path) == ("cat", "dog", "owl")
        assert models.read_labels(["cat", "dog "]) == ("cat", "dog ")
    first, second = (record.getMessage() for record in caplog.records)
    assert "labels[1]: ' dog'" in first
    assert "1 more" in first
    assert "taken off" in first
    assert "labels[1]: 'dog '" in second
    assert "part of the label" in second


def test_one_label_in_two_forms_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        assert models.read_labels(["crane", "Caf\u00e9", "crane", "Cafe\u0301"]) == ("crane", "Caf\u00e9") * 2
    (record,) = caplog.records
    assert "labels[1] and labels[3] are 'Caf\u00e9'" in record.getMessage()
