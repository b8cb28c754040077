"""The report on a data set, its files and its bundle."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import re
import subprocess
import zipfile
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from ouzel import audit
from ouzel.audit.dataset import (
    DatasetDesign,
    DatasetEvidence,
    LabelError,
    LabelErrors,
    Link,
    Record,
    audit_dataset,
    audit_table,
)
from ouzel.audit.report import (
    DatasetCase,
    Operator,
    article86_page,
    bundle,
    dataset_facts,
    dataset_files,
    dataset_page,
    predictions_csv,
)
from ouzel.errors import InvalidArgument
from support.audited import Known, by_border, by_mark, by_object, examples, pictures
from support.pages import HOSTILE, Page

CASE = DatasetCase(
    "herd of May",
    "ab" * 32,
    registered=datetime(2026, 5, 4, 8, tzinfo=UTC),
    audited=datetime(2026, 5, 4, 9, tzinfo=UTC),
    operator=Operator("Office of Gates", "gates@valley.example"),
)
DESIGN = DatasetDesign(fills=("texture",), images=2, suspects=2, cluster_pairs=6)


def audited(score, design: DatasetDesign = DESIGN, **changes) -> tuple[DatasetEvidence, dict[str, np.ndarray]]:
    many = pictures(**{"count": 9, **changes})
    predictor = Known(score)
    listed = [
        dataclasses.replace(each, service="Gate 7", time="May", held_out=True, true_label=each.label)
        for each in examples(many)
    ]
    evidence = audit_dataset(predictor, audit.AnswerMaps(predictor), listed, design)
    return evidence, {each.name: each.pixels for each in many}


@pytest.fixture(scope="module")
def behind() -> tuple[DatasetEvidence, dict[str, np.ndarray]]:
    return audited(by_border, dataclasses.replace(DESIGN, clusters=False))


@pytest.fixture(scope="module")
def table() -> DatasetEvidence:
    many = pictures(4)
    records = [
        Record(each.name, "goat" if each.label == "sheep" else each.label, 0.7, "Gate 7", "May") for each in many
    ]
    surrogate = Known(by_object)
    return audit_table(records, surrogate, audit.AnswerMaps(surrogate), examples(many), DESIGN)


def test_the_report_says_the_verdict_first_and_all_figures(behind):
    evidence, pixels = behind
    page = Page(dataset_page(evidence, CASE, pictures=pixels.get))
    assert evidence.overall.verdict == "rests_on_background"
    assert page.text.index("The predictions rest on the backgrounds") < 200
    assert "somebody should look at this" in page.text[:200]
    assert "Somebody should look at 3 of 3 classes: cow, goat, sheep." in page.text
    for group in (evidence.overall, *evidence.classes):
        assert group.reason in page.text
        for one in (group.background, group.object):
            test = one.test
            row = f"{test.only_change}{test.only_control}"
            assert row in re.sub(r"\s", "", page.text)
            assert f"{round(100 * one.low):+d}\u00a0% to {round(100 * one.high):+d}\u00a0%" in page.raw
    assert len(evidence.links) == 6
    assert all(link.reason in page.text for link in evidence.links)
    worst = evidence.worst
    assert f"Worst group: {worst.label} with backgrounds of {worst.background}" in page.text
    assert f"right on {worst.accuracy.count} of {worst.accuracy.of}" in page.text
    assert f"{100 * evidence.overall.background_gap:+.0f}\u00a0points" in page.raw
    for limit in evidence.limits:
        assert limit in page.text
    for text in evidence.design["rules"].values():
        assert text in page.text
    for text in (evidence.design_sha256, evidence.examples_sha256, "ab" * 32, "4 May 2026, 08:00 UTC", "Margins: flip"):
        assert text in page.text
    assert len(evidence.suspects) == 2
    assert all(one.row.name in page.text and one.row.reason in page.text for one in evidence.suspects)
    assert len(page.images) == 2 * 4  # of each suspect: the picture, its map, a background and an object


def test_clusters_are_shown_with_what_the_swap_decided():
    evidence, pixels = audited(by_mark, dataclasses.replace(DESIGN, cluster_pairs=12), count=16, marked=5)
    confirmed = [each for each in evidence.clusters if each.verdict == "confirmed"]
    assert confirmed
    page = Page(dataset_page(evidence, CASE, pictures=pixels.get))
    text = page.text
    assert all(each.reason in text for each in evidence.clusters)
    first = text.index(confirmed[0].reason)
    assert all(text.index(each.reason) > first for each in evidence.clusters if each.verdict == "cleared")
    assert f"Clusters whose region carries the prediction: {len(confirmed)}." in text
    assert "somebody should look at this" in text[:200]
    assert confirmed[0].members[0] in text
    bare = Page(dataset_page(evidence, CASE))
    assert 0 < len(bare.images) < len(page.images)  # the mean maps are there all the same


def test_suspected_labels_are_shown_with_their_pictures(behind):
    evidence, pixels = behind
    names = list(pixels)
    errors = tuple(LabelError(name, "goat", "sheep", 0.02, 0.875, "sheep") for name in names)
    doubted = dataclasses.replace(evidence, label_errors=LabelErrors(30, errors, "Held out."), suspects=())
    page = Page(dataset_page(doubted, CASE, pictures=pixels.get))
    assert f"{len(errors)} of 30 labels that were checked are in doubt" in page.text
    assert all(name in page.text for name in names)
    assert len(page.images) == 12
    assert f"{len(errors) - 12} more" in page.text


def test_a_table_of_records_is_called_weaker_and_says_nothing_of_tests(table):
    text = Page(dataset_page(table, CASE)).text
    assert "this evidence is weaker" in text
    assert "Recorded: goat. A surrogate says: sheep." in text
    for word in ("McNemar's", "Links between", "Background gap", "Clusters of like maps", "The model says"):
        assert word not in text
    row = table.suspects[0].row
    plain = Page(article86_page(row, source=table.source)).text
    assert "We could not ask the system." in plain
    assert "Its time is noted as “May”." in plain
    assert "It says “sheep”." in plain
    assert "points" not in plain
    known = dataclasses.replace(row, true_label="sheep")
    assert (
        "The image is known to show “sheep”. The decision says “goat”."
        in Page(article86_page(known, source=table.source)).text
    )


def test_the_page_for_the_person_of_a_row(behind):
    evidence, _ = behind
    row = evidence.rows[0]
    text = Page(article86_page(row, source=evidence.source)).text
    assert row.name in text
    assert "depends mainly on what is behind the object" in text
    assert f"It gave “{row.claimed}” {round(100 * row.probability)} points" in text
    refused = dataclasses.replace(row, verdict="refused", predicted="", probability=None, effects=())
    assert "This image could not be checked." in Page(article86_page(refused, source=evidence.source)).text
    with pytest.raises(InvalidArgument) as missing:
        article86_page(row)
    assert missing.value.field == "source"


def test_the_files_say_what_the_evidence_says(behind):
    evidence, pixels = behind
    files = dataset_files(evidence, CASE, pictures=pixels.get)
    told = json.loads(files["audit.json"][1])
    assert told["evidence"] == json.loads(json.dumps(evidence.to_dict()))
    assert told["case"]["registered"] == "2026-05-04T08:00:00+00:00"
    report = files["report.html"][1].decode()
    assert hashlib.sha256(files["audit.json"][1]).hexdigest() in report
    rows = list(csv.DictReader(io.StringIO(files["predictions.csv"][1].decode())))
    assert [each["name"] for each in rows] == [each.name for each in evidence.rows]
    assert Counter(each["verdict"] for each in rows) == evidence.overall.verdicts
    flipped = sum(each["background_flips"] == "yes" for each in rows)
    assert flipped == evidence.overall.background.flips.count
    assert [float(each["probability"]) for each in rows] == pytest.approx(
        [each.probability for each in evidence.rows], abs=1e-6
    )
    folder = told["suspects"][evidence.suspects[0].row.name]
    assert f'href="{folder}/page.html"' in report
    record = json.loads(files[f"{folder}/record.json"][1])
    assert record["case"]["image"] == evidence.suspects[0].row.name
    assert record["case"]["stated"] == "May"
    links = [each for each in Page(report).links if not each.startswith("#")]
    assert set(links) <= set(files)


def test_the_bundle_of_a_data_set_is_checked_by_sha256sum(behind, tmp_path):
    evidence, pixels = behind
    content = bundle(dataset_files(evidence, CASE, pictures=pixels.get), dataset_facts(evidence, CASE), title="Herd")
    zipfile.ZipFile(io.BytesIO(content)).extractall(tmp_path)
    command = ["sha256sum", "-c", "--strict", "SHA256SUMS"]
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (good.returncode, good.stderr) == (0, "")
    assert "audit.json: OK" in good.stdout
    text = (tmp_path / "README.txt").read_text(encoding="utf-8")
    assert evidence.design_sha256 in text
    assert "ab" * 32 in text
    (tmp_path / "predictions.csv").write_text("name\n")
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert bad.returncode == 1
    assert "predictions.csv: FAILED" in bad.stdout


def test_texts_from_strangers_stay_text(behind):
    evidence, _ = behind
    for text in (*HOSTILE, "=HYPERLINK(1)", "@SUM(1)", "+1", "-1", "\t=1", " =1"):
        row = dataclasses.replace(
            evidence.rows[0],
            name=text,
            claimed=text,
            true_label=f"{text} ",
            predicted=text,
            service=text,
            time=text,
            reason=text,
        )
        label = dataclasses.replace(evidence.classes[0], label=text, reason=text)
        hostile = dataclasses.replace(
            evidence,
            source=audit.Source("endpoint", text, text, text),
            maps_from=text,
            classes=(label,),
            links=(Link(text, text, text, evidence.links[0].comparison, text),),
            cells=(dataclasses.replace(evidence.cells[0], label=text, background=text),),
            worst=dataclasses.replace(evidence.cells[0], label=text, background=text),
            clusters_reason=text,
            suspects=(dataclasses.replace(evidence.suspects[0], row=row),),
            label_errors=LabelErrors(1, (LabelError(text, text, text, 0.1, 0.9, text),), text),
            rows=(row,),
            limits=(text,),
        )
        case = dataclasses.replace(CASE, name=text, operator=Operator(text, text))
        page = Page(dataset_page(hostile, case))
        assert len(page.text) < 20_000
        (found,) = csv.DictReader(io.StringIO(predictions_csv(hostile)))
        for name in ("name", "claimed", "true_label", "predicted", "service", "time", "reason"):
            assert not found[name].lstrip().startswith(("=", "+", "-", "@", "\t"))
            assert not re.search("[\x00-\x1f\u202a-\u202e]", found[name])
        Page(article86_page(row, source=hostile.source))


def test_file_names_of_suspects_are_safe(behind):
    evidence, _ = behind
    row = dataclasses.replace(evidence.suspects[0].row, name="../../etc/passwd\u202e.png\n")
    files = dataset_files(dataclasses.replace(evidence, suspects=(dataclasses.replace(evidence.suspects[0], row=row),)))
    assert "suspects/00-etc-passwd-png/page.html" in files
    names = zipfile.ZipFile(io.BytesIO(bundle(files, {}))).namelist()
    assert not any(".." in name or name.startswith("/") for name in names)


def test_many_classes_make_no_giant_table(behind):
    evidence, _ = behind
    classes = tuple(dataclasses.replace(evidence.classes[0], label=f"class {n:03}") for n in range(300))
    cells = tuple(dataclasses.replace(evidence.cells[0], label=f"class {n:03}", background="x") for n in range(300))
    text = dataset_page(dataclasses.replace(evidence, classes=classes, cells=cells, suspects=()), CASE)
    page = Page(text)
    assert "275 more classes" in page.text
    assert "class 000, class 001, class 002, class 003, class 004 and 295 more." in page.text
    assert 'class="confusion"' not in text
    assert len(text) < 1_500_000
