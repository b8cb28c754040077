"""Audits of recorded predictions, whose model cannot be asked: weaker evidence, and no verdict that needs more."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from ouzel.audit import AnswerMaps
from ouzel.audit.dataset import DatasetDesign, DatasetEvidence, Example, Record, Stopped, audit_table
from ouzel.errors import InvalidArgument
from support.audited import Known, Picture, by_object, examples, pictures

PICTURES = pictures(8)


def _truths(many: Sequence[Picture], *, known: bool) -> list[Example]:
    return [
        dataclasses.replace(each, true_label=each.label if known else None, label="anything") for each in examples(many)
    ]


def _records(many: Sequence[Picture], *, wrong: int = 0) -> list[Record]:
    """Of each class the first `wrong` are recorded as goats, or as sheep if they are goats."""
    return [
        Record(
            each.name,
            each.label if int(each.name[-3:]) >= wrong else "sheep" if each.label == "goat" else "goat",
            probability=0.75,
            service="sorter",
            time="2024-05-01T12:00:00Z",
        )
        for each in many
    ]


def audit(records: Sequence[Record], many: Sequence[Example], **others: Any) -> DatasetEvidence:
    surrogate = Known(by_object)
    return audit_table(records, surrogate, AnswerMaps(surrogate), many, DatasetDesign(suspects=4), **others)


def test_records_that_are_wrong_disagree_and_the_others_are_not_decided() -> None:
    evidence = audit(_records(PICTURES, wrong=2), _truths(PICTURES, known=True))
    assert evidence.mode == "table"
    assert evidence.source.kind == "table"
    assert evidence.source.name == "sorter"
    assert evidence.limits[0].startswith("Weaker evidence")
    for row, one in zip(evidence.rows, PICTURES, strict=True):
        wrong = row.claimed != one.label
        assert row.verdict == ("disagrees" if wrong else "inconclusive")
        assert row.concern == wrong
        assert (row.predicted, row.probability, row.service, row.time) == (
            row.claimed,
            0.75,
            "sorter",
            "2024-05-01T12:00:00Z",
        )
        assert row.surrogate == one.label
        assert row.agrees == row.surrogate_agrees == (not wrong)
    assert (evidence.overall.claim_accuracy.count, evidence.overall.claim_accuracy.of) == (18, 24)
    assert evidence.overall.agreement == evidence.overall.claim_accuracy
    assert evidence.overall.verdict == "inconclusive"
    assert len(evidence.suspects) == 4
    assert all(each.evidence is None and each.row.verdict == "disagrees" for each in evidence.suspects)
    assert json.loads(json.dumps(evidence.to_dict(), allow_nan=False)) == evidence.to_dict()


def test_maps_of_the_surrogate_are_measured_on_the_object() -> None:
    evidence = audit(_records(PICTURES), _truths(PICTURES, known=True))
    shares = [row.share_on_object for row in evidence.rows]
    assert all(each is not None and each > 0.5 for each in shares)
    assert {row.mask_source for row in evidence.rows} == {"mask"}


def test_where_nobody_knows_the_truth_the_surrogate_disagrees() -> None:
    evidence = audit(_records(PICTURES, wrong=8), _truths(PICTURES, known=False))
    assert {row.verdict for row in evidence.rows} == {"disagrees"}
    assert evidence.overall.verdict == "disagrees"
    assert evidence.overall.claim_accuracy.of == 0
    assert "Nobody says what the image is." in evidence.rows[0].reason
    assert "for the surrogate" in evidence.overall.reason


def test_the_truth_outweighs_the_surrogate() -> None:
    """The surrogate calls all of it wrong, and it is right."""
    truths = [dataclasses.replace(each, true_label="goat") for each in _truths(PICTURES[:8], known=True)]
    records = [dataclasses.replace(each, claimed="goat") for each in _records(PICTURES[:8])]
    evidence = audit(records, truths)
    assert evidence.overall.agreement.count == 0
    assert evidence.overall.claim_accuracy.count == 8
    assert evidence.overall.verdict == "inconclusive"
    assert {row.verdict for row in evidence.rows} == {"inconclusive"}


def test_no_verdict_says_what_a_decision_rests_on() -> None:
    for wrong in (0, 3, 8):
        evidence = audit(_records(PICTURES, wrong=wrong), _truths(PICTURES, known=True))
        for each in (evidence.overall, *evidence.classes, *evidence.rows):
            assert each.verdict in ("disagrees", "inconclusive")
        assert evidence.clusters == evidence.links == evidence.cells == ()


def test_records_without_an_image_are_refused() -> None:
    records = [*_records(PICTURES[:3]), Record("nowhere", "goat")]
    truths = _truths(PICTURES[:3], known=True)
    truths[0] = dataclasses.replace(truths[0], read=lambda: b"broken")  # what it is, is known all the same
    truths[1] = dataclasses.replace(truths[1], read=lambda: b"broken", true_label=None)
    evidence = audit(records, truths)
    assert [row.verdict for row in evidence.rows] == ["inconclusive", "refused", "inconclusive", "refused"]
    assert "there is no image of this name" in evidence.rows[3].reason
    assert evidence.rows[0].surrogate is None
    assert "The surrogate was not asked" in evidence.rows[0].reason
    assert evidence.overall.refused == 2


def test_a_class_that_the_surrogate_lacks_is_not_compared() -> None:
    records = [dataclasses.replace(each, claimed="yak") for each in _records(PICTURES[:2])]
    evidence = audit(records, _truths(PICTURES[:2], known=False))
    assert [row.surrogate_agrees for row in evidence.rows] == [None, None]
    assert {row.verdict for row in evidence.rows} == {"inconclusive"}
    assert evidence.overall.agreement.of == 0


def test_a_stopped_audit_of_a_table_goes_on() -> None:
    records, truths = _records(PICTURES[:6], wrong=3), _truths(PICTURES[:6], known=True)
    calls = iter(range(100))
    with pytest.raises(Stopped) as stopped:
        audit(records, truths, stop=lambda: next(calls) == 3)
    assert len(stopped.value.state["rows"]) == 3
    assert audit(records, truths, resume=stopped.value.state).to_dict() == audit(records, truths).to_dict()


def test_records_that_make_no_sense_are_refused() -> None:
    one = _records(PICTURES[:1])[0]
    with pytest.raises(InvalidArgument, match="no image"):
        audit([], [])
    with pytest.raises(InvalidArgument, match="used twice"):
        audit([one, one], _truths(PICTURES[:1], known=True))
    for probability in (-0.1, 1.5, float("nan")):
        with pytest.raises(InvalidArgument, match=r"records\[0\].probability"):
            audit([dataclasses.replace(one, probability=probability)], _truths(PICTURES[:1], known=True))
