"""The pages and files of one audited prediction."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from ouzel import audit
from ouzel.audit.evidence import ReportedMap
from ouzel.audit.report import Case, Operator, article86_page, canonical, prediction_files, prediction_page
from ouzel.errors import InvalidArgument
from ouzel.pages.texts import cell, visible
from support.herd import Looks, audited, scene
from support.pages import HOSTILE, MARKUP, Page

CASE = Case(
    "herd/goat.jpg",
    "cd" * 32,
    service="Gate 7",
    decided=datetime(2026, 5, 3, 14, 5, tzinfo=UTC),
    audited=datetime(2026, 5, 4, 9, 0, tzinfo=UTC),
    options=audit.PredictionOptions(scenes=2, steps=2, random_orders=1),
    operator=Operator("Office of Gates", "gates@valley.example", "A person decides. The system helps."),
)


@pytest.fixture(scope="module")
def behind() -> audit.PredictionEvidence:
    return audited("background")


@pytest.fixture(scope="module")
def front() -> audit.PredictionEvidence:
    return audited("object")


def test_a_page_says_what_the_evidence_says(behind):
    page = Page(prediction_page(behind, CASE, record="ef" * 32))
    assert behind.verdict == "rests_on_background"
    assert "Rests on the background somebody should look at this" in page.text
    assert behind.reason in page.text
    for text in ("Gate 7", "3 May 2026, 14:05 UTC", "cd" * 32, "ef" * 32, behind.source.digest, "blur, mean, texture"):
        assert text in page.text
    for effect in behind.effects:
        assert f"{round(effect.effect, 2) + 0.0:+.2f}" in page.text
    for limit in behind.limits:
        assert limit in page.text
    faithful = behind.maps[0].faithfulness
    assert f"{faithful.deletion:.3f}" in page.text
    assert f"{faithful.random_insertion:.3f}" in page.text
    assert hashlib.sha256(behind.picture.tobytes()).hexdigest() in page.text
    tried = {each.name.partition("/")[2] for each in behind.outcomes if each.kind == "scene"}
    assert tried
    assert all(f"from {name}" in page.text for name in tried)
    # the picture, the maps with their scale, and every changed picture
    assert len(page.images) == 1 + len(behind.maps) + 1 + len(behind.outcomes)


def test_verdicts_have_words_and_only_a_concern_asks_for_a_look(front, behind):
    assert "somebody should look" not in Page(prediction_page(front)).text
    assert front.verdict == "rests_on_object"
    place = dataclasses.replace(behind, scene=True, concern=False)
    text = Page(prediction_page(place)).text
    assert "may rest on the background" in text
    assert "somebody should look" not in text
    other = audited("object", claimed="wolf")
    assert other.verdict == "disagrees"
    text = Page(prediction_page(other)).text
    assert "Disagrees with the claim" in text
    assert f"wolf, has rank {other.agreement.rank + 1}." in text


def test_weaker_evidence_is_called_weaker():
    source = audit.Source("callable", "mine")
    loose = audited("object", mask=False, predictor=Looks("object", source=source), pool=audit.Pool())
    page = Page(prediction_page(loose))
    assert loose.verdict == "inconclusive"
    assert "this evidence is weaker" in page.text
    assert "The caller reported the answers" in page.text
    assert "the region that the map marks" in page.text
    plain = Page(article86_page(loose)).text
    assert "Nobody told us where the object is." in plain
    assert "We did not see the system ourselves." in plain
    assert "no clear result" in plain


def test_a_map_that_is_no_better_than_random_is_not_to_be_read(behind):
    claim = behind.maps[0]
    bad = dataclasses.replace(claim.faithfulness, deletion=0.9, random_deletion=0.5)
    worse = dataclasses.replace(behind, maps=(dataclasses.replace(claim, faithfulness=bad),))
    assert "do not read anything into this map" in Page(prediction_page(worse)).text
    good = dataclasses.replace(bad, deletion=0.1, insertion=0.9, random_insertion=0.2)
    better = dataclasses.replace(behind, maps=(dataclasses.replace(claim, faithfulness=good),))
    assert "do not read anything" not in Page(prediction_page(better)).text


def test_what_is_missing_is_said(behind):
    bare = dataclasses.replace(
        behind, maps=(), effects=(), outcomes=(), reported_map=ReportedMap(rank_correlation=-0.25, top_overlap=0.5)
    )
    text = Page(prediction_page(bare)).text
    assert "There is no map." in text
    assert "No change has a control" in text
    assert "Rank correlation with the map of the claim: -0.25" in text
    assert "not known" in text


def test_the_outline_is_round_the_object(behind):
    from ouzel.audit.report.drawing import outlined

    drawn = outlined(behind.picture, behind.mask)
    yellow = (drawn == (255, 212, 0)).all(-1)
    factor = drawn.shape[0] // behind.mask.shape[0]
    inside = behind.mask.repeat(factor, 0).repeat(factor, 1)
    near = np.pad(inside, 8)
    grown = np.max([np.roll(near, (a, b), (0, 1)) for a in range(-8, 9, 4) for b in range(-8, 9, 4)], 0)[8:-8, 8:-8]
    assert yellow.any()
    assert not (yellow & ~grown).any()  # nowhere but at the edge
    centre = near & np.all([np.roll(near, shift, axis) for shift in (-8, 8) for axis in (0, 1)], 0)
    assert not (yellow & centre[8:-8, 8:-8]).any()


@pytest.mark.parametrize("kind", ["front", "behind"])
def test_the_page_for_the_person_is_short_and_plain(kind, request):
    evidence = request.getfixturevalue(kind)
    page = Page(article86_page(evidence, CASE))
    text = page.text
    for word in ("salien", "logit", "counterfactual", "probabilit", "predict", "classif", "model", "class", "margin"):
        assert word not in text.lower()
    for needed in ("herd/goat.jpg", "3 May 2026, 14:05 UTC", "Gate 7", "gates@valley.example", "A person decides."):
        assert needed in text
    sentences = [each for each in re.split(r"[.?:] ", text) if each.strip()]
    lengths = [len(each.split()) for each in sentences]
    assert sum(lengths) < 420
    assert max(lengths) <= 24
    assert sum(lengths) / len(lengths) < 12
    assert len(page.images) == 3
    told = {
        "rests_on_object": "depends mainly on the object in the image",
        "rests_on_background": "depends mainly on what is behind the object",
    }
    assert told[evidence.verdict] in text
    assert f"gave “goat” {round(100 * evidence.agreement.claimed.probability)} points" in text


def test_the_page_for_the_person_without_an_operator(front):
    text = Page(article86_page(front)).text
    assert "We were not told when it was made." in text
    assert "We were not told which part people had in the decision." in text
    assert "Ask the organisation that made the decision." in text


def test_the_page_for_the_person_of_a_decision_that_the_system_does_not_share():
    text = Page(article86_page(audited("object", claimed="wolf"), CASE)).text
    assert "The decision and the system do not agree." in text
    assert "the system gave another answer: “goat”" in text
    assert "result is clear" not in text


def test_texts_from_strangers_stay_text(behind):
    """Each place holds each text once: labels, names of images and services, methods, texts of the operator."""
    files = {}
    for text in HOSTILE:
        agreement = dataclasses.replace(
            behind.agreement,
            **{name: dataclasses.replace(getattr(behind.agreement, name), label=text) for name in ("claimed", "rival")},
        )
        evidence = dataclasses.replace(
            behind,
            source=audit.Source("endpoint", text, text, text),
            agreement=agreement,
            maps=(dataclasses.replace(behind.maps[0], of=text, method=text, caveats=(text,)),),
            outcomes=tuple(
                dataclasses.replace(each, name=f"{each.change}/{text}/../x", predicted=text)
                for each in behind.outcomes
                if each.kind == "scene"
            ),
            maps_from=text,
            reason=text,
            limits=(text,),
        )
        case = dataclasses.replace(CASE, image=text, service=text, operator=Operator(text, text, text))
        files = prediction_files(evidence, case)
        for name in ("page.html", "article86.html"):
            page = Page(files[name][1].decode())
            assert " ".join(visible(text, 20).rstrip("…").split()) in page.text
            assert len(page.text) < 12_000  # long texts are cut
        assert all(re.fullmatch(r"([a-z0-9-]+/)?[A-Za-z0-9.-]+", name) for name in files)
        told = json.loads(files["record.json"][1])
        expected = text.encode(errors="backslashreplace").decode()
        assert told["evidence"]["agreement"]["claimed"]["label"] == expected
        assert told["case"]["image"] == expected


def test_labels_with_markup_go_through_a_whole_audit():
    labels = (MARKUP, "sheep", "wolf")
    pool = audit.Pool([dataclasses.replace(scene("sheep", 5), name=f"../{MARKUP}")])
    evidence = audited("background", claimed="index:0", predictor=Looks("background", labels), pool=pool)
    text = Page(prediction_page(evidence)).text
    assert MARKUP in text
    assert evidence.verdict == "rests_on_background"


def test_what_cannot_be_seen_is_spelt_out():
    assert visible("a\u202eb\x1b\n\u200b\ud800") == "a\\u202eb\\x1b\\n\\u200b\\ud800"
    assert visible("क्‍ष 👩‍🌾 لغة") == "क्‍ष 👩‍🌾 لغة"
    assert visible("x" * 90, 10) == "x" * 9 + "…"
    assert visible("x" * 10, 10) == "x" * 10
    assert [cell(each) for each in ("=1", "+1", "-1", "@x", "\tx", " =1", "＝1", "a=1", "")] == [
        "'=1",
        "'+1",
        "'-1",
        "'@x",
        "'\tx",
        "' =1",
        "'＝1",
        "a=1",
        "",
    ]


def test_the_record_holds_the_hashes_of_all_pictures_and_its_own_figures(behind):
    files = prediction_files(behind, CASE)
    record = json.loads(files["record.json"][1])
    pictures = {name: content for name, (_, content) in files.items() if not name.endswith((".html", ".json"))}
    assert record["files"] == {name: hashlib.sha256(each).hexdigest() for name, each in pictures.items()}
    assert record["case"]["digest"] == CASE.digest
    assert record["options"]["steps"] == 2
    assert hashlib.sha256(files["record.json"][1]).hexdigest() in files["page.html"][1].decode()
    for told, outcome in zip(record["evidence"]["counterfactuals"], behind.outcomes, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(files[told["file"]][1])))
        assert (shown == outcome.picture).all()
        assert told["probability"] == outcome.probability
    for told, drawn in zip(record["evidence"]["maps"], behind.maps, strict=True):
        assert (np.load(io.BytesIO(files[told["values_file"]][1]), allow_pickle=False) == drawn.values).all()
        assert told["picture_file"] in files
    assert (np.asarray(Image.open(io.BytesIO(files["input.png"][1]))) == behind.picture).all()
    assert ((np.asarray(Image.open(io.BytesIO(files["mask.png"][1]))) > 0) == behind.mask).all()
    again = prediction_files(audited("background"), CASE)
    assert again == files  # no clock and no chance


def test_canonical_json_is_that_of_the_standard():
    # the example of RFC 8785, section 3.2.2, without the figures that Python's parser cannot tell
    given = {
        "string": '\u20ac$\u000f\nA\'B"\\\\"/',
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27, -0.0],
        "literals": [None, True, False],
        "\ue000": 1,
        "\U0001f600": 2,
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27,0],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/","\U0001f600":2,"\ue000":1}'
    )
    assert canonical(given) == expected.encode()
    for bad in (float("nan"), float("inf"), 2**53, np.float32(1)):
        with pytest.raises(InvalidArgument, match="record"):
            canonical({"a": bad})


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"digest": "xyz"}, "digest"),
        ({"dataset": "AB" * 32}, "dataset"),
        ({"decided": datetime(2026, 5, 3)}, "decided"),
        ({"audited": datetime(2026, 5, 3)}, "audited"),
    ],
)
def test_a_case_that_is_wrong_is_refused(values, field):
    with pytest.raises(InvalidArgument) as refused:
        Case(**values)
    assert refused.value.field == field
    with pytest.raises(InvalidArgument):
        Operator(role="x" * 2001)
