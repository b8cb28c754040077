"""Workers and jobs killed at random: nothing acknowledged is lost, nothing is published twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chaos import OneMachine, Rampage


@pytest.mark.timeout(600)
def test_random_kills(url: str, tmp_path: Path) -> None:
    report = Rampage(OneMachine(url, tmp_path), seed=1).run(4)
    assert (report.lost, report.twice, report.broken, report.left) == ([], [], [], [])
    assert report.jobs > 5
    assert report.attempts > report.jobs, "no attempt was ever disturbed"
