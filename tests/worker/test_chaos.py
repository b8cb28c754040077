"""Workers and jobs killed at random: nothing acknowledged is lost, nothing is published twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chaos import Rampage


@pytest.mark.timeout(600)
def test_random_kills(url: str, tmp_path: Path) -> None:
    found = Rampage(url, tmp_path, seed=1).run(6)
    assert (found.lost, found.twice, found.broken, found.left) == ([], [], [], [])
    assert found.jobs > 5
    assert found.attempts > found.jobs, "no attempt was ever disturbed"
