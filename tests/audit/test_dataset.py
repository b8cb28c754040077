"""Audits of data sets: verdicts on predictors whose reliance is known, and what happens on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import rfc8785
from PIL import Image
from scipy.stats import binomtest

from ouzel.audit import Margins, Source, View
from ouzel.audit.dataset import (
    DatasetDesign,
    DatasetEvidence,
    Event,
    Example,
    Flips,
    GroupMargins,
    ImageRow,
    Stopped,
    audit_dataset,
)
from ouzel.audit.dataset.groups import groups
from ouzel.errors import FailedPrecondition, InvalidArgument, Unavailable
from ouzel.worker.kinds import checkpoint
from support.audited import (
    BACKGROUNDS,
    EDGE,
    LABELS,
    Flat,
    Known,
    Picture,
    by_border,
    by_object,
    example,
    examples,
    pictures,
)

FAST = DatasetDesign(fills=("mean",), images=2, clusters=False, suspects=0)
SIDE = (EDGE, EDGE)


def audit(predictor: Known, many: Sequence[Example], design: DatasetDesign = FAST, **others: Any) -> DatasetEvidence:
    return audit_dataset(predictor, Flat(), many, design, **others)


@pytest.fixture(scope="module")
def behind() -> DatasetEvidence:
    """Of a predictor that rests on the background."""
    return audit(Known(by_border), examples(pictures(24)))


@pytest.fixture(scope="module")
def before() -> DatasetEvidence:
    """Of a predictor that rests on the object."""
    return audit(Known(by_object), examples(pictures(24)))


def test_who_looks_at_the_background_is_convicted(behind: DatasetEvidence) -> None:
    for group in (behind.overall, *behind.classes):
        assert group.verdict == "rests_on_background", group.reason
        assert group.concern
        assert group.background is not None
        assert group.object is not None
        assert (group.background.flips.share, group.background.control_flips.share) == (1, 0)
        assert group.object.flips.share == 0
        assert group.background_gap == 1
        assert group.verdicts == {"rests_on_background": group.images}
    assert [group.label for group in behind.classes] == sorted(LABELS)
    assert behind.overall.agreement.share == 1


def test_who_looks_at_the_object_is_cleared(before: DatasetEvidence) -> None:
    for group in (before.overall, *before.classes):
        assert group.verdict == "rests_on_object", group.reason
        assert not group.concern
        assert group.background_gap == 0
    assert before.links == ()
    assert before.suspects == ()


def test_links_name_the_background_and_what_becomes_of_the_class(behind: DatasetEvidence) -> None:
    assert {(link.label, link.background, link.becomes) for link in behind.links} == {
        (label, other, other) for label in LABELS for other in LABELS if label != other
    }
    link = next(each for each in behind.links if (each.label, each.background) == ("sheep", "goat"))
    assert link.reason.startswith("With the background of 'goat' pictures, 24 of 24 'sheep' become 'goat'; ")


def test_links_are_of_the_classes_that_rest_on_them_alone() -> None:
    def score(pixels: np.ndarray) -> np.ndarray:  # the background of cows makes cows of all; nothing else does
        border = pixels[:3].reshape(-1, 3).mean(0)
        return by_object(pixels) + np.array([0, 0, 30.0 if np.abs(border - BACKGROUNDS[2]).sum() < 60 else 0])

    evidence = audit(Known(score), examples(pictures(14)))
    assert {(link.label, link.background, link.becomes) for link in evidence.links} == {
        ("sheep", "cow", "cow"),
        ("goat", "cow", "cow"),
    }
    assert evidence.worst is not None
    assert (evidence.worst.background, evidence.worst.accuracy.count) == ("cow", 0)
    assert evidence.worst.label in ("sheep", "goat")


def test_cells_hold_each_class_on_each_background(behind: DatasetEvidence) -> None:
    assert [(each.label, each.background) for each in behind.cells] == [
        (a, b) for a in sorted(LABELS) for b in sorted(LABELS)
    ]
    for cell in behind.cells:
        assert cell.accuracy.share == (cell.label == cell.background)


def test_a_scene_may_rest_on_its_background() -> None:
    design = dataclasses.replace(FAST, scenes=("goat",))
    evidence = audit(Known(by_border), examples(pictures(12)), design)
    concerns = {group.label: group.concern for group in evidence.classes}
    assert concerns == {"sheep": True, "goat": False, "cow": True}
    assert {group.verdict for group in evidence.classes} == {"rests_on_background"}
    assert all(row.concern == (row.claimed != "goat") for row in evidence.rows)
    with pytest.raises(InvalidArgument, match=r"scenes: .*no class 'gaot'"):
        audit(Known(by_border), examples(pictures(2)), dataclasses.replace(FAST, scenes=("gaot",)))


def test_few_images_do_not_decide() -> None:
    evidence = audit(Known(by_border), examples(pictures(5)))
    assert {group.verdict for group in evidence.classes} == {"inconclusive"}
    assert "5 images of 'cow' were tried; a verdict needs 6" in evidence.classes[0].reason
    # Each image differs, but of six pairs in each of three classes no test is below 0.05.
    evidence = audit(Known(by_border), examples(pictures(6)))
    assert {group.verdict for group in evidence.classes} == {"inconclusive"}
    assert evidence.classes[0].reason.startswith("6 images do not decide.")
    assert evidence.overall.verdict == "rests_on_background"  # eighteen pairs, and one test


def test_who_copes_with_no_change_is_not_convicted() -> None:
    seen: set[bytes] = set()

    def score(pixels: np.ndarray) -> np.ndarray:  # right on the pictures of the data set, wrong on all others
        return np.roll(by_border(pixels), pixels.tobytes() not in seen)

    many = pictures(12)
    seen |= {each.pixels.astype(np.float32).tobytes() for each in many}
    evidence = audit(Known(score), examples(many))
    assert evidence.overall.agreement.share == 1
    assert evidence.overall.verdict == "inconclusive"
    assert evidence.overall.reason.startswith("The control fails")


def test_who_says_something_else_disagrees() -> None:
    many = [dataclasses.replace(each, label="cow") if each.label == "goat" else each for each in pictures(12)]
    evidence = audit(Known(by_object), examples(many))
    cow, sheep = evidence.classes
    assert (cow.label, cow.agreement.count, cow.agreement.of) == ("cow", 12, 24)
    many = [
        dataclasses.replace(each, label="cow") if each.label == "goat" else each for each in pictures(12, classes=2)
    ]
    cow, sheep = audit(Known(by_object), examples(many)).classes
    assert (cow.verdict, cow.concern, cow.agreement.count) == ("disagrees", True, 0)
    assert sheep.verdict != "disagrees"


def test_a_noisy_predictor_is_not_convicted_of_its_noise() -> None:
    """A third of all pictures get a class by lot, changed or not."""
    for seed in range(4):
        evidence = audit(Known(by_object, wrong=0.3, seed=seed), examples(pictures(12, seed, classes=2)))
        assert all(group.verdict != "rests_on_background" for group in (evidence.overall, *evidence.classes))


def _drawn(random: np.random.Generator, label: str, chances: Sequence[float]) -> ImageRow:
    """An image whose prediction is turned with these chances: by background, its control, object, its control."""
    return ImageRow("", label, predicted=label, agrees=True, flips=Flips(*(random.random(4) < chances).tolist()))


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3, 0.45])
def test_convictions_by_chance_are_as_seldom_as_the_design_says(noise: float) -> None:
    """Of many data sets with five classes whose background counts for nothing, at most alpha convict any class."""
    random, false, runs = np.random.default_rng(7), 0, 300
    for _ in range(runs):
        rows = [_drawn(random, str(n % 5), (noise, noise, noise, noise)) for n in range(60)]
        overall, classes = groups(rows, FAST)
        false += any(each.verdict == "rests_on_background" for each in (overall, *classes))
    assert binomtest(false, runs, FAST.alpha, alternative="greater").pvalue > 0.01


def test_nobody_is_cleared_whose_background_counts_by_the_margin() -> None:
    random, cleared, runs = np.random.default_rng(8), 0, 300
    for _ in range(runs):
        rows = [_drawn(random, "goat", (0.3, 0.1, 0.9, 0.1)) for _ in range(30)]
        cleared += groups(rows, FAST)[0].verdict == "rests_on_object"
    assert cleared <= 0.025 * runs


@pytest.mark.parametrize(
    ("chances", "verdict"),
    [((0.8, 0.1, 0.1, 0.1), "rests_on_background"), ((0.03, 0.03, 0.9, 0.1), "rests_on_object")],
)
def test_forty_images_of_a_class_decide(chances: tuple[float, ...], verdict: str) -> None:
    random, right, runs = np.random.default_rng(9), 0, 100
    for _ in range(runs):
        rows = [_drawn(random, label, chances) for label in ("goat", "sheep") for _ in range(40)]
        right += all(each.verdict == verdict for each in groups(rows, FAST)[1])
    assert right >= 0.8 * runs


def test_one_class_is_not_hidden_by_the_others() -> None:
    random = np.random.default_rng(11)
    rows = [_drawn(random, f"class {n}", (0.0, 0.0, 1.0, 0.0)) for n in range(9) for _ in range(30)]
    overall, classes = groups(rows, FAST)
    assert (overall.verdict, overall.concern) == ("rests_on_object", False)
    rows += [_drawn(random, "goat", (1.0, 0.0, 0.0, 0.0)) for _ in range(30)]
    overall, classes = groups(rows, FAST)
    assert [each.label for each in classes if each.verdict == "rests_on_background"] == ["goat"]
    assert (overall.verdict, overall.concern) == ("inconclusive", True)
    assert overall.reason.startswith("Some classes rest on their background: 'goat'.")
    assert groups(rows, FAST, frozenset({"goat"}))[0].verdict == "rests_on_object"


def test_both_may_count() -> None:
    random = np.random.default_rng(10)
    rows = [_drawn(random, "goat", (0.9, 0.0, 0.9, 0.0)) for _ in range(40)]
    (group,) = groups(rows, FAST)[1]
    assert group.verdict == "inconclusive"
    assert group.reason.startswith("Background and object both count.")


def test_images_without_a_region_are_in_no_test() -> None:
    many = pictures(8)
    half = [example(each, masked=number % 2 == 0) for number, each in enumerate(many)]
    evidence = audit(Known(by_border), half)
    assert evidence.overall.without_region == 12
    assert evidence.overall.background is not None
    assert evidence.overall.background.test.pairs == 12
    unknown = [row for row in evidence.rows if row.mask_source == "nominated"]
    assert len(unknown) == 12
    assert {row.verdict for row in unknown} == {"inconclusive"}
    assert all(row.flips is None and row.swaps == () for row in unknown)
    assert any("nobody knows where the object is" in limit for limit in evidence.limits)
    nobody = audit(Known(by_border), [example(each, masked=False) for each in pictures(8)])
    assert nobody.overall.verdict == "inconclusive"
    assert nobody.overall.background is None


def test_boxes_stand_for_the_object() -> None:
    def boxed(one: Picture) -> Example:
        rows, columns = np.flatnonzero(one.mask.any(1)), np.flatnonzero(one.mask.any(0))
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return Example(one.name, one.label, one.png, boxes=[box])

    evidence = audit(Known(by_border), [boxed(each) for each in pictures(8)])
    assert evidence.overall.verdict == "rests_on_background"
    assert {row.mask_source for row in evidence.rows} == {"boxes"}
    assert any(limit.startswith("Boxes hold background") for limit in evidence.limits)


def test_textures_are_behind_the_object_where_no_other_class_is() -> None:
    design = dataclasses.replace(FAST, fills=("texture",))
    one = audit(Known(by_border), examples(pictures(12, classes=1)), design)
    assert one.overall.background is not None
    assert one.overall.background.test.pairs == 12
    assert one.links == ()
    assert one.overall.mixed_rand.of == 0
    assert one.overall.background_gap is None


def _broken(name: str, label: str, content: bytes) -> Example:
    return Example(name, label, lambda: content)


def test_an_image_that_cannot_be_read_is_refused_alone(behind: DatasetEvidence) -> None:
    def gone() -> bytes:
        raise FileNotFoundError("the file is gone")

    def zipped() -> bytes:
        raise zipfile.BadZipFile("not an OSError")

    many = examples(pictures(24))
    wrong_size = dataclasses.replace(many[0], name="wrong", mask=lambda: np.ones((3, 4), dtype=bool))
    bad = [
        Example("gone", "sheep", gone),
        _broken("empty", "goat", b""),
        _broken("text", "goat", b"<svg onload=alert(1)>"),
        dataclasses.replace(many[0], name="unknown", label="unicorn"),
        wrong_size,
    ]
    evidence = audit(Known(by_border), [*many[:5], *bad, *many[5:]])
    reasons = {row.name: row.reason for row in evidence.rows if row.verdict == "refused"}
    assert list(reasons) == [each.name for each in bad]
    assert "the file is gone" in reasons["gone"]
    assert "no class 'unicorn'" in reasons["unknown"]
    assert "3 x 4" in reasons["wrong"]
    assert evidence.overall.refused == 5
    assert evidence.overall.images == len(many) + 5
    assert evidence.overall.background == behind.overall.background
    with pytest.raises(zipfile.BadZipFile):  # an error of the code, not of the image
        audit(Known(by_border), [*many[:2], Example("zip", "sheep", zipped)])


def test_a_source_that_does_not_answer_ends_the_audit_and_it_can_go_on() -> None:
    class Shaky(Known):
        def __call__(self, many: np.ndarray) -> np.ndarray:
            if self.asked > 60:
                raise Unavailable("the service is down")
            return super().__call__(many)

    states: list[dict[str, Any]] = []
    many = examples(pictures(6))
    with pytest.raises(Unavailable):
        audit(Shaky(by_border), many, on_event=lambda event: states.append(event.state()))
    assert 0 < len(states[-1]["rows"]) < len(many)
    resumed = audit(Known(by_border), many, resume=states[-1])
    assert resumed.to_dict() == audit(Known(by_border), many).to_dict()


def test_a_source_that_never_answers_usably_is_no_data_set_of_bad_images() -> None:
    class Useless(Known):
        def __call__(self, many: np.ndarray) -> np.ndarray:
            raise FailedPrecondition("known: answered probabilities that are not finite")

    with pytest.raises(FailedPrecondition, match="not finite"):
        audit(Useless(by_border), examples(pictures(6)))


def test_a_stopped_audit_goes_on_to_the_same_result() -> None:
    many = [
        dataclasses.replace(each, true_label=each.label, held_out=True) for each in examples(pictures(4, classes=2))
    ]
    design, predictor = dataclasses.replace(FAST, suspects=1), Known(by_border)
    whole = audit(predictor, many, design)
    for after in (0, 1, 5, 8):
        done: list[Event] = []

        def stop(done: list[Event] = done, after: int = after) -> bool:
            return done[-1].phase == ("images" if after else "registered") and done[-1].step == after

        with pytest.raises(Stopped) as stopped:
            audit(Known(by_border), many, design, on_event=done.append, stop=stop)
        state = checkpoint.read(checkpoint.dump(stopped.value.state))  # as a job keeps it
        assert len(state["rows"]) == after
        rest = Known(by_border)
        assert audit(rest, many, design, resume=state).to_dict() == whole.to_dict()
        assert (rest.asked < predictor.asked) == (after > 0)


def test_a_state_is_of_one_design_and_of_one_data_set() -> None:
    many = examples(pictures(2))
    with pytest.raises(Stopped) as stopped:
        audit(Known(by_border), many, stop=lambda: True)
    other = dataclasses.replace(FAST, margins=GroupMargins(flip=0.01))
    with pytest.raises(FailedPrecondition, match="another design"):
        audit(Known(by_border), many, other, resume=stopped.value.state)
    with pytest.raises(FailedPrecondition, match="another examples"):
        audit(Known(by_border), many[::-1], resume=stopped.value.state)


def test_the_design_is_told_before_anything_is_asked() -> None:
    predictor, told = Known(by_border), []

    def on_event(event: Event) -> None:
        told.append((event.phase, predictor.asked, event.state()["design"]))

    evidence = audit(predictor, examples(pictures(2)), on_event=on_event)
    assert told[0] == ("registered", 0, FAST.sha256())
    assert evidence.design_sha256 == FAST.sha256()
    assert [phase for phase, asked, _ in told if asked == 0] == ["registered"] + ["pool"] * 6
    assert evidence.design == FAST.to_dict()


def test_the_hash_of_a_design_is_of_its_values_alone() -> None:
    """Keys in any order, and numbers as any reader of JSON gives them back: the same. Other values: another hash."""
    design = DatasetDesign(scenes=("Straße",), margins=GroupMargins(flip=1.0))
    read = json.loads(json.dumps(design.to_dict()))
    turned = dict(reversed(read.items())) | {"margins": dict(reversed(read["margins"].items())) | {"flip": 1}}
    assert hashlib.sha256(rfc8785.dumps(turned)).hexdigest() == design.sha256()
    others: list[dict[str, Any]] = [
        {"fills": ("blur",)},
        {"images": 3},
        {"image_margins": Margins(effect=0.3)},
        {"margins": GroupMargins(flip=0.9)},
        {"alpha": 0.01},
        {"scenes": ()},
        {"pool_per_class": 23},
        {"clusters": False},
        {"cluster_pairs": 39},
        {"suspects": 11},
        {"seed": 1},
    ]
    assert {name for each in others for name in each} == {each.name for each in dataclasses.fields(DatasetDesign)}
    hashes = {dataclasses.replace(design, **each).sha256() for each in others}
    assert len(hashes | {design.sha256()}) == len(others) + 1


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("margins.flip", {"margins": GroupMargins(flip=0.0)}),
        ("margins.control", {"margins": GroupMargins(control=1.5)}),
        ("margins.agreement", {"margins": GroupMargins(agreement=float("nan"))}),
        ("margins.fewest", {"margins": GroupMargins(fewest=0)}),
        ("margins.effect", {"image_margins": Margins(effect=2.0)}),
        ("alpha", {"alpha": 0.5}),
        ("fills", {"fills": ("plaid",)}),
        ("scenes", {"scenes": ("goat", "goat")}),
        ("images", {"images": 33}),
        ("pool_per_class", {"pool_per_class": 0}),
        ("cluster_pairs", {"cluster_pairs": 5}),
        ("suspects", {"suspects": 65}),
        ("seed", {"seed": -1}),
    ],
)
def test_values_out_of_range_are_refused_by_name(field: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        DatasetDesign(**values)
    assert refused.value.field == field


def test_a_data_set_that_cannot_be_audited_is_refused() -> None:
    one = examples(pictures(1))
    with pytest.raises(InvalidArgument, match="there is no image"):
        audit(Known(by_border), [])
    with pytest.raises(InvalidArgument, match=r"examples\[3\].name: 'sheep000' is used twice"):
        audit(Known(by_border), [*one, one[0]])
    with pytest.raises(InvalidArgument, match="none of the labels"):
        audit(Known(by_border), [dataclasses.replace(each, label="unicorn") for each in one])
    odd = dataclasses.replace(one[0], name="\ud800")  # as names of files may be
    assert audit(Known(by_border), [*one[1:], odd]).rows[-1].verdict != "refused"


def test_suspects_come_by_evidence_and_with_pictures() -> None:
    """Sheep rest on their background fully, goats on both."""

    def score(pixels: np.ndarray) -> np.ndarray:
        return 0.5 * by_object(pixels) * np.array([0, 1, 1]) + 1.5 * by_border(pixels)

    evidence = audit(Known(score), examples(pictures(6)), dataclasses.replace(FAST, suspects=4))
    concerned = [row for row in evidence.rows if row.concern]
    assert len(evidence.suspects) == min(4, len(concerned)) > 0
    strengths = [each.row.evidence for each in evidence.suspects]
    assert strengths == sorted((row.evidence for row in concerned), reverse=True)[: len(strengths)]
    for suspect in evidence.suspects:
        assert suspect.evidence is not None
        assert suspect.evidence.verdict == suspect.row.verdict
        assert suspect.evidence.effects == suspect.row.effects
        assert suspect.evidence.maps[0].faithfulness is not None
        assert suspect.evidence.outcomes[0].picture.shape == (*SIDE, 3)


def test_true_labels_tell_right_from_wrong() -> None:
    many = [
        dataclasses.replace(each, true_label="goat" if number == 0 else each.label)
        for number, each in enumerate(examples(pictures(6)))
    ]
    evidence = audit(Known(by_object), many)
    assert (evidence.overall.accuracy.count, evidence.overall.accuracy.of) == (17, 18)
    assert (evidence.overall.claim_accuracy.count, evidence.overall.claim_accuracy.of) == (17, 18)
    assert evidence.overall.mixed_same.of == 17  # the one is not what its backgrounds were drawn for


def test_a_surrogate_gives_its_opinion() -> None:
    evidence = audit(Known(by_object), examples(pictures(4, mixed=True)), surrogate=Known(by_border))
    agree = [row.surrogate_agrees for row in evidence.rows]
    assert agree == [row.surrogate == row.predicted for row in evidence.rows]
    assert 0 < sum(map(bool, agree)) < len(agree)


def test_classes_of_the_same_name_are_told_apart() -> None:
    class Cranes(Known):
        labels = ("sheep", "crane", "crane")

    many = [
        dataclasses.replace(each, label={"sheep": "sheep", "goat": "crane (1)", "cow": "index:2"}[each.label])
        for each in examples(pictures(8))
    ]
    evidence = audit(Cranes(by_border), many)
    assert [group.label for group in evidence.classes] == ["crane (1)", "crane (2)", "sheep"]
    assert evidence.overall.agreement.share == 1
    assert evidence.overall.background_gap == 1
    refused = audit(Cranes(by_border), [*many, dataclasses.replace(many[0], name="x", label="crane")]).rows[-1]
    assert refused.verdict == "refused"


def test_a_model_of_ours_is_audited() -> None:
    """A tiny network whose weights say what it looks at: the colours of the picture's left edge."""
    import torch

    from ouzel.audit import ModelMaps, ModelPredictor
    from ouzel.models import Model
    from ouzel.models.preprocessing import Preprocessing

    network = torch.nn.Sequential(torch.nn.AvgPool2d((EDGE, 2)), torch.nn.Flatten(), torch.nn.Linear(3 * EDGE // 2, 3))
    with torch.no_grad():
        network[2].weight.zero_()
        means = torch.from_numpy(BACKGROUNDS / 255).float()
        for channel in range(3):
            network[2].weight[:, channel * EDGE // 2] = 40 * means[:, channel]
        network[2].bias.copy_(-20 * (means**2).sum(1))
    plain = Preprocessing(input_size=SIDE, resize=EDGE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    model = Model("tiny", "1", network, LABELS, plain, "sequential", "sha256:0", {})
    predictor = ModelPredictor(model)
    maps = ModelMaps(model, model.labels, "gradient")
    evidence = audit_dataset(predictor, maps, examples(pictures(8)), FAST)
    assert evidence.overall.agreement.share == 1
    assert evidence.overall.verdict == "rests_on_background"
    assert evidence.source == Source("model", "tiny", "1", "sha256:0")
    shares = [row.share_on_object for row in evidence.rows]
    assert max(each for each in shares if each is not None) < 0.05


def test_the_result_is_plain_values(behind: DatasetEvidence) -> None:
    plain = json.loads(json.dumps(behind.to_dict(), allow_nan=False))
    assert plain == behind.to_dict()
    assert [ImageRow.from_dict(each) for each in plain["rows"]] == list(behind.rows)
    assert plain["overall"]["background"]["test"]["pairs"] == 72
    assert plain["design_sha256"] == behind.design_sha256


def test_what_is_kept_of_an_image_is_small() -> None:
    """The state grows with the images by rows alone, whatever the size of their pictures."""

    def large(one: Picture) -> Example:
        buffer = io.BytesIO()
        Image.fromarray(one.pixels).resize((200, 200)).save(buffer, "PNG")
        return Example(one.name, one.label, buffer.getvalue)

    class Large(Known):
        view = View((96, 96))

    states: list[dict[str, Any]] = []
    audit(
        Large(by_border),
        [large(each) for each in pictures(3, classes=2)],
        dataclasses.replace(FAST, suspects=0),
        on_event=lambda event: states.append(event.state()),
    )
    sizes = [len(checkpoint.dump(each)) for each in states]
    assert (sizes[-1] - sizes[0]) / 6 < 20_000


def test_a_text_is_a_label_rather_than_an_index() -> None:
    class Numbered(Known):
        labels = ("2", "0", "1")

    names = dict(zip(LABELS, Numbered.labels, strict=True))
    many = [dataclasses.replace(each, label=names[each.label]) for each in examples(pictures(8))]
    many[0] = dataclasses.replace(many[0], label="index:0", true_label="label:2")
    evidence = audit(Numbered(by_border), many)
    assert [group.label for group in evidence.classes] == ["0", "1", "2"]
    assert evidence.overall.agreement.share == 1
    assert evidence.overall.background_gap == 1
    assert {(each.label, each.background) for each in evidence.cells} == {(a, b) for a in "012" for b in "012"}
    assert evidence.rows[0].claimed == evidence.rows[0].true_label == "2"
