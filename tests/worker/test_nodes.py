"""Nodes of the wire: how a class is named."""

from __future__ import annotations

import pytest

from ouzel.errors import InvalidArgument
from ouzel.maximize import ClassLogit
from ouzel.worker.catalog.catalog import Model
from ouzel.worker.kinds import targets
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb

DIGITS = Model("digits", "", (1, 8, 8), ("1", "10", "Caf\u00e9"), {})


def logit(label: str) -> pb.Node:
    return pb.Node(logit=explain_pb2.ClassRef(label=label))


@pytest.mark.parametrize("text", ["10", "2", "index:1", "label:1", "Cafe\u0301", "index:2"])
def test_texts_go_on_to_the_network_as_they_are(text: str) -> None:
    targets.check([logit(text)], DIGITS, 1)
    assert targets.plain([logit(text)]) == [ClassLogit(text)]


@pytest.mark.parametrize(("text", "told"), [("1", "'label:1' (class 0, '1') or 'index:1'"), ("3", "0..2"), ("", "''")])
def test_texts_that_are_not_clear_are_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        targets.check([logit("10"), logit(text)], DIGITS, 2)
    assert caught.value.field == "targets[1].logit.label"
    assert str(caught.value).startswith("targets[1].logit.label: ")
    assert told in str(caught.value)
