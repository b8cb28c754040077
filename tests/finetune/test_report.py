"""The report of a tuning: its figures are those that were measured, and whatever a label holds stays text."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.finetune import Example, Split, Tuned, compare, make_recipe, make_report, write_report
from ouzel.finetune import report as reports
from ouzel.finetune.metrics import class_scores, mcnemar, most_confused, score
from ouzel.finetune.report.maps import FINE, choose_view
from ouzel.finetune.report.page import page, why
from ouzel.models import Model, Preprocessing

HOSTILE = ('<script>alert("x")</script>', "a\"b'c & d", "=1+1", "image", "لغة")


def picture(seed: int, name: str, label: str) -> Example:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    content = out.getvalue()
    return Example(name, label, hashlib.sha256(content).hexdigest(), lambda: content)


def tuned_of(tiny: Model, labels: tuple[str, ...], rows: list[tuple[int, int]], **changes) -> Tuned:
    """A result without a training. rows: (true class, predicted class) of each test image."""
    torch.manual_seed(0)
    network = models.freeze(models.build(tiny.arch, num_classes=len(labels)))
    test = tuple(picture(n, f"{labels[true]}/{n}.png", labels[true]) for n, (true, _) in enumerate(rows))
    train = tuple(picture(100 + n, f"{label}/train{n}.png", label) for n, label in enumerate(labels))
    logits = torch.zeros(len(rows), len(labels))
    for n, (_, predicted) in enumerate(rows):
        logits[n, predicted] = 1 + 0.1 * n
    tuned = Tuned(
        network=network,
        labels=labels,
        preprocessing=tiny.preprocessing,
        recipe=make_recipe("lp_ft", {}),
        seed=0,
        split=Split(train, train, test),
        test=score(logits, torch.tensor([true for true, _ in rows])),
        validation={"feature_extractor": 0.5, "lp_ft": 0.75},
        chosen="lp_ft",
        history=tuple(
            {"epoch": n, "train_loss": 1 / n, "loss": loss, "accuracy": right, "balanced_accuracy": right, "seconds": n}
            for n, loss, right in ((1, 0.9, 0.5), (2, 0.8, 0.75), (3, 0.7, 0.75), (4, 0.75, 0.75))
        ),
        logits=logits,
        seconds=12.0,
    )
    return dataclasses.replace(tuned, **changes)


class Elements(HTMLParser):
    """Names of all elements and attributes, the text, the sources, and what is left open."""

    VOID = ("meta", "img", "input", "br", "polyline", "path", "use", "rect", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.sources, self.links, self.images = [], [], [], []
        self.open, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        assert not any(name.startswith("on") for name in values), attrs
        self.sources += [values["src"]] if "src" in values else []
        self.links += [values["href"]] if tag == "a" else []
        self.images += [values] if tag == "img" else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(text: str) -> Elements:
    """The page, after a look at what every page must be."""
    elements = Elements(text)
    assert not elements.open
    assert "script" not in elements.tags
    assert all(source.startswith("data:image/") for source in elements.sources)
    assert all(each.get("alt") for each in elements.images)
    assert "width=device-width" in text
    assert "default-src 'none'" in text
    return elements


def test_precision_recall_and_f1_are_scikit_learns():
    chance = np.random.default_rng(0)
    true, said = chance.integers(0, 6, 200), chance.integers(0, 5, 200)  # the last class is never predicted
    logits = torch.nn.functional.one_hot(torch.tensor(said), 7).float()  # and one there is none of
    scores = class_scores(score(logits, torch.tensor(true)).confusion)
    theirs = precision_recall_fscore_support(true, said, labels=range(7), zero_division=np.nan)
    for ours, *figures in zip(scores, *theirs, strict=True):
        for mine, figure in zip((ours.precision, ours.recall, ours.f1), figures, strict=False):
            assert (mine is None and np.isnan(figure)) or mine == pytest.approx(figure)
        assert ours.images == figures[3]


def test_pairs_that_are_mixed_up_most_come_first():
    pairs = most_confused(((5, 2, 0), (3, 4, 0), (2, 0, 0)), 2)
    assert [(one.true, one.predicted, one.count) for one in pairs] == [(1, 0, 3), (2, 0, 2)]
    assert [one.share for one in pairs] == [3 / 7, 1.0]


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (5, 1), (3, 3), (40, 20), (0, 12)])
def test_mcnemar_is_a_test_of_signs(fixed, broken):
    theirs = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert mcnemar(fixed, broken) == pytest.approx(theirs)


def test_the_page_says_what_report_json_says(tiny, tmp_path):
    labels = ("brick", "grass", "gravel")
    rows = [(0, 0)] * 4 + [(1, 1)] * 3 + [(1, 2)] * 2 + [(2, 2)] * 3
    report = make_report(tiny, tuned_of(tiny, labels, rows))
    lineage = {"base": "tiny", "parameters": {"flip": False}, "something_new": 3, "libraries": {"torch": "2.15"}}
    path = write_report(report, tmp_path / "out", title="textures@2", lineage=lineage)
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["accuracy"] == pytest.approx(10 / 12)
    grass = figures["classes"][1]
    assert (grass["label"], grass["train"], grass["test"]) == ("grass", 1, 5)
    assert (grass["precision"], grass["recall"]) == (1.0, 0.6)
    elements = read(path.read_text(encoding="utf-8"))
    assert "is right on 10 of 12 images" in elements.text
    assert "83.3 %" in elements.text
    weakest = "The weakest class is grass: 60 % of its images are found; most often they are taken for gravel (2 of 5)."
    assert weakest in elements.text
    for text in ("Base model tiny", "Parameter: flip no", "Something new 3", "Library: torch 2.15"):
        assert text in elements.text
    assert f"{report.created:%Y-%m-%d %H:%M} UTC" in elements.text
    assert set(elements.links) >= {"report.json", "predictions.csv", "curves.png"}
    for link in elements.links:
        assert link.startswith("#") or (tmp_path / "out" / link).is_file()
    assert "grass taken for gravel" in elements.text
    table = list(csv.DictReader(io.StringIO((tmp_path / "out" / "predictions.csv").read_text())))
    assert [(row["label"], row["predicted"]) for row in table] == [(labels[a], labels[b]) for a, b in rows]
    assert len(report.mistakes) == 2
    assert all(one.picture.shape == (384, 384, 3) for one in report.mistakes)


def test_what_a_label_holds_stays_text(tiny, tmp_path):
    rows = [(0, 0), (0, 1), (1, 0), (2, 3), (3, 2), (4, 4)]
    tuned = tuned_of(tiny, HOSTILE, rows)
    split = dataclasses.replace(
        tuned.split,
        test=tuple(dataclasses.replace(one, name=f'"><img src=x onerror=y>{one.name}') for one in tuned.split.test),
    )
    tuned = dataclasses.replace(tuned, split=split)
    served = Model('<i>"@', "1", tuned.network, HOSTILE, tiny.preprocessing, tiny.arch, "sha256:s", {})
    report = make_report(tiny, tuned, compare(served, tuned))
    path = write_report(report, tmp_path, title="<script>1</script>", lineage={"<b>": "<script>2</script>"})
    elements = read(path.read_text(encoding="utf-8"))
    for label in HOSTILE:
        assert label in elements.text
    assert "<script>2</script>" in elements.text
    table = list(csv.reader(io.StringIO((tmp_path / "predictions.csv").read_text())))
    assert {row[1] for row in table} >= {"'=1+1"}  # a spreadsheet would run it
    assert not any(cell.startswith("=") for row in table for cell in row)


def test_names_that_are_no_utf_8_are_written_all_the_same(tiny, tmp_path):
    tuned = tuned_of(tiny, ("a", "b"), [(0, 1), (1, 1)])
    name = os.fsdecode(b"a/caf\xe9.png")
    test = (dataclasses.replace(tuned.split.test[0], name=name), tuned.split.test[1])
    tuned = dataclasses.replace(tuned, split=dataclasses.replace(tuned.split, test=test))
    path = write_report(make_report(tiny, tuned), tmp_path, lineage={"file": name})
    assert "a/caf\\udce9.png" in read(path.read_text(encoding="utf-8")).text
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["lineage"]["file"] == name
    assert "a/caf\\udce9.png" in (tmp_path / "predictions.csv").read_text(encoding="utf-8")


def test_the_served_version_beside_it(tiny):
    labels = ("a", "b", "c")
    tuned = tuned_of(tiny, labels, [(0, 0), (1, 1), (2, 2), (2, 0)])
    served = Model("t", "3", tuned.network, ("c", "a", "b"), tiny.preprocessing, tiny.arch, "sha256:s", {})
    comparison = compare(served, tuned)
    for number, example in enumerate(tuned.split.test):  # one by one, as it is served
        logits = served.network(served.preprocessing(models.decode(example.read()))[None])
        assert comparison.predicted[number] == served.labels[int(logits.argmax())]
    right = [said == one.label for said, one in zip(comparison.predicted, tuned.split.test, strict=True)]
    assert comparison.accuracy == sum(right) / 4
    assert comparison.fixed == tuple(n for n in (0, 1, 2) if not right[n])
    assert comparison.broken == ((3,) if right[3] else ())
    report = make_report(tiny, tuned, comparison)
    text = read(page(report, "t@4", {})).text
    assert f"t@3, served until now, is right on {100 * sum(right) / 4:.1f} % of the same images" in text
    assert [one.served for one in report.fixed] == [comparison.predicted[n] for n in comparison.fixed]
    assert reports.summary(report)["fixed"] == len(comparison.fixed)


def test_a_served_version_of_other_classes_is_not_compared(tiny):
    tuned = tuned_of(tiny, ("a", "b"), [(0, 0), (1, 0)])
    other = Model("t", "1", tuned.network, ("a", "z"), tiny.preprocessing, tiny.arch, "sha256:s", {})
    comparison = compare(other, tuned)
    assert (comparison.accuracy, comparison.predicted) == (None, ())
    text = read(page(make_report(tiny, tuned, comparison), "t", {})).text
    assert "Not compared with t@1" in text
    assert "it does not know 'b' and also knows 'z'" in text


def test_three_hundred_classes_make_no_giant_table(tiny):
    labels = tuple(f"class {n:03}" for n in range(300))
    report = make_report(tiny, tuned_of(tiny, labels, [(n, n if n % 3 else (n + 1) % 300) for n in range(300)]))
    text = page(report, "many", {})
    elements = read(text)
    assert "confusion many" not in text
    assert "report.json has the whole table of 300 classes" in elements.text
    assert "All 300 classes" in elements.text
    assert len(text) < 4_000_000


def test_what_is_missing_is_left_out(tiny, monkeypatch):
    """No epochs, no mistakes, no lineage, no files, no matplotlib."""
    tuned = tuned_of(
        tiny,
        ("a", "b"),
        [(0, 0), (1, 1)],
        history=(),
        validation={"feature_extractor": 1.0},
        chosen="feature_extractor",
        recipe=make_recipe("feature_extractor", {}),
    )
    text = page(make_report(tiny, tuned), "few", {})
    elements = read(text)
    assert "svg" not in elements.tags
    assert not [link for link in elements.links if not link.startswith("#")]
    assert "No image was taken for another class." in elements.text
    assert "No mistake at all" in elements.text
    assert "2 held-out images are few" in elements.text
    assert "There was one candidate: feature_extractor." in elements.text
    monkeypatch.setattr("ouzel.finetune.report.curves.find_spec", lambda name: None)
    report = make_report(tiny, tuned_of(tiny, ("a", "b"), [(0, 0), (1, 1)]))
    assert "The same as a table" in read(page(report, "no matplotlib", {})).text
    assert "curves.png" not in reports.files(report, "no matplotlib", {})


def test_curves_have_whole_epochs_and_the_one_that_was_kept(tiny):
    text = page(make_report(tiny, tuned_of(tiny, ("a", "b"), [(0, 0), (1, 0)])), "t", {})
    drawn = text[text.index("<svg") : text.index("</svg>")]
    ticks = re.findall(r"<text [^>]*>([\d.]+)</text>", drawn)
    assert {"1", "2", "3", "4"} <= set(ticks)
    assert not {"1.5", "2.5", "3.5"} & set(ticks)
    assert "3 (kept)" in read(text).text  # as many right as after the second, with less loss
    assert "with the weights after epoch 3, more of them are right than with feature_extractor" in read(text).text


def test_why_a_candidate_was_chosen(tiny):
    tuned = tuned_of(tiny, ("a", "b"), [(0, 0), (1, 0)])
    equal = {"feature_extractor": 0.75, "lp_ft": 0.75}
    assert "as many are right, with less loss" in why(dataclasses.replace(tuned, validation=equal), 3)
    head = dataclasses.replace(tuned, chosen="feature_extractor", validation={"feature_extractor": 0.9, "lp_ft": 0.7})
    assert "training all layers did not get better" in why(head, None)


@pytest.mark.parametrize(
    ("arch", "edge", "usual"),
    [
        ("timm:tf_efficientnet_lite0", 224, True),
        ("timm:tf_efficientnet_lite0", 96, False),
        ("torchvision:resnet18", 96, False),
        ("torchvision:vgg11", 64, False),
    ],
)
def test_maps_are_fine_enough(arch, edge, usual):
    torch.manual_seed(0)
    network = models.freeze(models.build(arch, num_classes=3))
    view = choose_view(network, Preprocessing(input_size=(edge, edge), resize=edge))
    shapes = {each.name: each.shape for each in models.layers(network, torch.zeros(1, 3, edge, edge))}
    assert min(view.places) >= FINE
    assert shapes[view.layer][1:] == view.places
    assert view.method == "grad_cam"
    assert (view.layer == models.cam_layer(network, torch.zeros(1, 3, edge, edge))) == usual == (not view.note)


class _Split(torch.nn.Module):
    """Two ways from the image to the answer: no layer but the last sees all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(3, 4, 3, padding=1)
        self.last, self.head = torch.nn.Conv2d(4, 4, 3, 16), torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.one(x) * self.two(x)).relu().mean((2, 3)))


def test_a_layer_beside_which_there_is_another_way_is_none_to_look_at():
    torch.manual_seed(0)
    view = choose_view(_Split().eval(), Preprocessing(input_size=(32, 32), resize=32))
    assert (view.method, view.layer, view.places) == ("grad_cam", "last", (2, 2))
    assert "2 x 2, and no other will do: read them as a direction" in view.note
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2)).eval()
    with pytest.raises(FailedPrecondition):
        models.cam_layer(flat, torch.zeros(1, 3, 32, 32))
    assert choose_view(flat, Preprocessing(input_size=(32, 32), resize=32)).method == "gradient"
