"""What callers may know of an endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouzel.endpoints.description.file import parse, parse_flag
from ouzel.worker.auditing.sources import describe
from ouzel_protos.v1 import audit_pb2 as pb

JSON = """
[theirs]
kind = "http-json"
url = "http://127.0.0.1:1/secret?key=abc"
labels = ["a", "b"]
size = [64, 96]
[theirs.input]
image = "body"
[theirs.output]
form = "mapping"
scores = "probabilities"
"""


def test_the_operators_description_is_told_and_the_address_is_not(tmp_path: Path) -> None:
    told = describe("theirs", parse(JSON, tmp_path)["theirs"])
    assert told == pb.ListAuditSourcesResponse.Source(name="theirs", kind="http-json", classes=2, height=64, width=96)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/predictions/birds"])
def test_what_only_the_service_knows_is_0(url: str) -> None:
    told = describe("birds", parse_flag(f"birds={url}"))
    assert told == pb.ListAuditSourcesResponse.Source(name="birds", kind="torchserve")
