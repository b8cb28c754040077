"""Members of zip files that are damaged, however they were packed: each reader says so, in errors of its own."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.model_file import CARD, MANIFEST, archives, card
from ouzel.torchserve import archives as served
from ouzel_client import errors as client_errors
from ouzel_client._codec import zips

METHODS = {"deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


@pytest.fixture(params=METHODS)
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "m.mar"
    with zipfile.ZipFile(path, "w", METHODS[request.param]) as made:
        for name in (MANIFEST, CARD):
            made.writestr(name, json.dumps({"model": {"modelVersion": "1"}, "filler": list(range(2000))}))
        places = [info.header_offset + 30 + len(info.filename) for info in made.infolist()]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place + 9 : place + 200] = b"\xff" * 191
    path.write_bytes(content)
    return path


def test_data_sets(damaged: Path) -> None:
    for read in zips.members(damaged).values():
        with pytest.raises(client_errors.InvalidArgument, match="is damaged"):
            read()


def test_model_stores(damaged: Path) -> None:
    (found,) = archives([damaged])
    assert "not a sound zip file" in found.error
    with pytest.raises(FailedPrecondition, match=r"m\.mar"):
        card(damaged)


def test_archives_that_are_to_be_served(damaged: Path) -> None:
    with pytest.raises(InvalidArgument, match="is not a model archive"):
        served.check("m", damaged)
