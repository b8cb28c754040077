"""The operator's file: what is wrong is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ouzel.errors import InvalidArgument, NotFound
from ouzel.sink.config import Limits
from ouzel.sink.file import read
from support.sink import ENDPOINTS, write

WRONG: dict[str, tuple[str, str, str]] = {
    "rate": ("rate = 2", "", "services.farm.rate: 2 is not within 0..1"),
    "nothing to audit": ("rate = 0", "", "audits nothing"),
    "unknown key": ("rat = 1", "", "did you mean 'rate'"),
    "bodies": ('bodies = "fram"', "", "did you mean 'farm'"),
    "regions": ('regions = "all"', "", "known, nominated"),
    "margin": ("[services.farm.margins]\nflip = 1.0", "", "margins.flip: 1 is not within 0.01..0.95"),
    "agreement": ("[services.farm.margins]\nagreement = 1.0", "", "margins.agreement"),
    "run length": ("[services.farm.alert]\nrun_length = 10", "", "alert.run_length: 10 is not within 100"),
    "alert key": ("[services.farm.alert]\nlength = 10", "", "alert.length: unknown"),
    "label": ('where = [{ classes = ["gnu"] }]', "", "'gnu' is not a label"),
    "two conditions": ('where = [{ classes = ["goat"], score_below = 0.5 }]', "", "where: a condition is one of"),
    "score": ("where = [{ score_below = 7 }]", "", "where.score_below: 7 is not within 0..1"),
    "score without scores": ('label = "a"\nwhere = [{ score_below = 0.5 }]', "", "a score is not known"),
    "no values": ('where = [{ attribute = "endpoint" }]', "", "has no values"),
    "path": ('label = "a..b"', "", "is not a path"),
    "mask": ('mask = "m"', "", "mask: comes beside boxes"),
    "types": ('request = "a"\nresponse = "a"', "", "is the type of requests"),
    "limit": ("", "[sink.limits]\nbody_bytes = 1", "limits.body_bytes: 1 is not within 1024"),
    "remember": ("", "[sink.limits]\nremember_s = 10", "limits.remember_s"),
    "limit key": ("", "[sink.limits]\nbodies = 1", "limits.bodies: unknown"),
    "notify": ("", '[sink.notify]\nurl = "ftp://a/"', "url: is not a URL of http, https"),
    "token": ("", 'token = { env = "NOT_SET_ANYWHERE" }', "NOT_SET_ANYWHERE is not set"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_named(tmp_path: Path, case: str) -> None:
    service, sink, words = WRONG[case]
    with pytest.raises(InvalidArgument) as caught:
        read(write(tmp_path, service, sink))
    assert words in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read(tmp_path / "no.toml")
    (tmp_path / "a.toml").write_text("a = ")
    with pytest.raises(InvalidArgument, match="is not TOML"):
        read(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text("[sink]\n")
    with pytest.raises(InvalidArgument, match="endpoints"):
        read(tmp_path / "b.toml")
    write(tmp_path)
    (tmp_path / "c.toml").write_text('[sink]\nendpoints = "endpoints.toml"\n')
    with pytest.raises(InvalidArgument, match="services: missing"):
        read(tmp_path / "c.toml")


def test_bodies_that_cannot_be_read_back_are_refused(tmp_path: Path) -> None:
    form = ENDPOINTS.replace('image = "json"\npath = "instances[0].image.b64"', 'image = "multipart"\nfield = "f"')
    with pytest.raises(InvalidArgument, match="forms"):
        read(write(tmp_path, endpoints=form))
    ouzel = '[farm]\nurl = "http://farm.invalid/predictions/farm"\nhandler = "ouzel"\nsize = "image"\n'
    with pytest.raises(InvalidArgument, match="labels"):
        read(write(tmp_path, endpoints=ouzel))


def test_what_is_fixed_has_a_digest_that_changes_with_it(tmp_path: Path) -> None:
    (usual,) = read(write(tmp_path)).services
    assert read(write(tmp_path)).services[0].sha256() == usual.sha256()
    for other in (
        "rate = 0.5",
        "rate = 1.0\n[services.farm.margins]\nflip = 0.3",
        "rate = 1.0\n[services.farm.alert]\nrun_length = 500",
        'rate = 1.0\nregions = "nominated"',
    ):
        assert read(write(tmp_path, other)).services[0].sha256() != usual.sha256()
    background, disagreement = usual.detectors
    assert (background.margin, disagreement.margin) == (0.2, 0.5)
    assert background.threshold == disagreement.threshold == 2 * usual.run_length


def test_the_sink_needs_no_torch() -> None:
    code = "import sys, ouzel.sink.server, ouzel.cli.sink; print([m for m in ('torch', 'scipy') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_secrets_and_addresses_are_not_shown(tmp_path: Path) -> None:
    own = (
        'token = "very-secret"\n[sink.notify]\nurl = "https://hooks.invalid/very-secret"\nbearer_token = "very-secret"'
    )
    config = read(write(tmp_path, sink=own))
    assert "very-secret" not in repr(config)
    assert config.limits == Limits()
