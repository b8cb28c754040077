from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouzel.errors import InvalidArgument
from ouzel.finetune import Example, make_recipe, split
from ouzel.finetune.data import SPLITS, from_folder
from ouzel_client._codec.dataset_source import collect

RECIPE = make_recipe("lp_ft", {})


def plain(name: str, label: str, group: str = "", part: str = "") -> Example:
    return Example(name, label, name, bytes, part, group)


@settings(deadline=None)
@given(
    st.lists(st.integers(3, 40), min_size=2, max_size=5),
    st.integers(0, 5),
    st.data(),
)
def test_a_split_takes_the_same_share_of_each_class_and_leaves_nothing_out(counts, seed, data):
    examples = [plain(f"{label}/{n}", str(label)) for label, count in enumerate(counts) for n in range(count)]
    result = split(data.draw(st.permutations(examples)), RECIPE, seed)
    parts = [getattr(result, name) for name in SPLITS]
    assert sorted(e.name for part in parts for e in part) == sorted(e.name for e in examples)
    for label, count in enumerate(counts):
        of_class = [sum(e.label == str(label) for e in part) for part in parts]
        assert all(of_class)
        assert abs(of_class[2] - count * 0.2) <= 1
        assert abs(of_class[1] - (count - of_class[2]) * 0.2) <= 1


def test_the_order_of_the_examples_does_not_matter_but_the_seed_does():
    examples = [plain(f"{label}/{n}", label) for label in "ab" for n in range(30)]
    assert set(split(examples, RECIPE, 1).test) == set(split(examples[::-1], RECIPE, 1).test)
    assert set(split(examples, RECIPE, 1).test) != set(split(examples, RECIPE, 2).test)


def test_groups_stay_together_even_with_different_labels():
    examples = [plain(f"{label}/{n}", label, group=f"g{n % 7}") for label in "ab" for n in range(28)]
    result = split(examples, RECIPE)
    places = Counter()
    for name in SPLITS:
        places.update({e.group for e in getattr(result, name)})
    assert set(places.values()) == {1}


@pytest.mark.parametrize("seed", range(8))
def test_a_large_group_is_for_training(seed):
    burst = [plain(f"a/{n}", "a", group="burst") for n in range(90)]
    others = [plain(f"a/other {n}", "a") for n in range(5)] + [plain(f"b/{n}", "b") for n in range(20)]
    result = split([*burst, *others], RECIPE, seed)
    assert set(burst) <= set(result.train)
    assert {each.label for each in result.test} == {"a", "b"}


def test_the_same_bytes_stay_together():
    examples = [replace(plain(f"{label}/{n}", label), sha256=f"{label}{n // 2}") for label in "ab" for n in range(20)]
    result = split(examples, RECIPE)
    assert not {e.sha256 for e in result.train} & {e.sha256 for e in (*result.test, *result.validation)}


def test_those_marked_for_training_stay_beside_those_that_say_nothing():
    marked = [plain(f"{label}/marked {n}", label, part="train") for label in "ab" for n in range(5)]
    result = split([*marked, *(plain(f"{label}/{n}", label) for label in "ab" for n in range(10))], RECIPE)
    assert set(marked) <= {*result.train, *result.validation}
    assert len(result.train) + len(result.validation) + len(result.test) == 30
    only = split(marked, RECIPE)
    assert len(only.train) + len(only.validation) + len(only.test) == 10
    assert only.train
    assert only.test


def test_what_the_examples_say_of_their_part_is_respected():
    named = [plain(f"{label}/{part}{n}", label, part=part) for label in "ab" for part in SPLITS for n in range(4)]
    result = split(named, RECIPE)
    assert all(e.split == name for name in SPLITS for e in getattr(result, name))
    # With two parts the second gives the figures, and what to choose by comes from the first.
    two = [e for e in named if e.split != "test"]
    result = split(two, RECIPE)
    assert {e.split for e in result.test} == {"validation"}
    assert {e.split for e in result.validation} == {e.split for e in result.train} == {"train"}


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([plain(f"a/{n}", "a") for n in range(9)], "1 class"),
        ([*(plain(f"{n}", "ac"[n % 2]) for n in range(9)), plain("b/1", "b", part="test")], "class 'b'"),
        ([plain("a/1", "a"), plain("b/1", "b")], "no validation image"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(examples, said):
    with pytest.raises(InvalidArgument, match=said) as caught:
        split(examples, RECIPE)
    assert caught.value.field == "data"


def test_a_folder(tmp_path, colours):
    for each in colours:
        (tmp_path / each.label).mkdir(exist_ok=True)
        (tmp_path / each.name).write_bytes(each.read())
    (tmp_path / "notes.txt").write_text("not an image")
    assert set(from_folder(tmp_path)) == set(colours)
    with pytest.raises(InvalidArgument, match="lies in no folder"):
        from_folder(tmp_path / "red")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="holds no"):
        from_folder(tmp_path / "empty")
    with pytest.raises(InvalidArgument, match="nowhere"):
        from_folder(tmp_path / "nowhere")


def test_a_folder_is_read_as_the_client_reads_it(tmp_path, colours, caplog):
    places = ("Training/red/1.png", "Training/blue/2.png", "test_set/red/2024/3.PNG", "@eaDir/4.png", "test_set/5.png")
    for place, each in zip(places, colours, strict=False):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(each.read())
    examples = from_folder(tmp_path)
    assert [(each.name, each.label, each.split) for each in examples] == [
        ("Training/blue/2.png", "blue", "train"),
        ("Training/red/1.png", "red", "train"),
        ("test_set/red/2024/3.PNG", "red", "test"),
    ]
    files = collect(tmp_path, None)
    assert [(each.path, each.label, each.split) for each in files.entries] == [
        (each.name, each.label, each.split) for each in examples
    ]
    for name, reason in files.left_out:
        assert f"{name!r} of {tmp_path} is left out: {reason}" in caplog.text
    assert [name for name, _ in files.left_out] == ["@eaDir/", "test_set/5.png"]


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("lpft", {}, "recipe"),
        ("feature_extractor", {"epochs": 3}, "parameters.epochs"),
        ("lp_ft", {"epochs": 0}, "parameters.epochs"),
        ("lp_ft", {"epochs": 2.5}, "parameters.epochs"),
        ("lp_ft", {"epochs": True}, "parameters.epochs"),
        ("lp_ft", {"learning_rate": float("nan")}, "parameters.learning_rate"),
        ("lp_ft", {"flip": 1}, "parameters.flip"),
        ("scratch", {"spread": 3.0}, "parameters.spread"),
    ],
)
def test_recipes_refuse_what_they_do_not_know(name, parameters, field):
    with pytest.raises(InvalidArgument) as caught:
        make_recipe(name, parameters)
    assert caught.value.field == field
