"""Where the log of a folder is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ouzel.databases.urls import without_password
from ouzel.errors import FailedPrecondition
from ouzel.ledger.settings import existing, settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db:5432/jobs", "postgresql://me@db:5432/jobs"),
        ("postgresql://me@db/jobs?password=sec%26ret&sslmode=require", "postgresql://me@db/jobs?sslmode=require"),
        (
            "postgresql://me:p%40ss@a,b/jobs?target_session_attrs=any",
            "postgresql://me@a,b/jobs?target_session_attrs=any",
        ),
        ("postgresql://me@/jobs?host=/run/pg", "postgresql://me@/jobs?host=/run/pg"),
        ("sqlite:///var/a:b@c.db", "sqlite:///var/a:b@c.db"),
    ],
)
def test_urls_without_their_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_new_password_is_no_other_log(tmp_path: Path) -> None:
    old, new = (f"postgresql://me:{word}@db/jobs" for word in ("first", "second"))
    settings(tmp_path, database=old)
    assert settings(tmp_path, database=new).database == new
    assert existing(tmp_path).database == new
    assert settings(tmp_path).database == new
    file = tmp_path / "ledger.json"
    assert json.loads(file.read_text())["database"] == new
    assert file.stat().st_mode & 0o077 == 0


def test_another_place_is_refused_and_shows_no_password(tmp_path: Path) -> None:
    settings(tmp_path, database="postgresql://me:first@db/jobs")
    with pytest.raises(FailedPrecondition, match="its database is postgresql://me@db/jobs, not") as refused:
        settings(tmp_path, database="postgresql://me:second@elsewhere/jobs")
    assert "first" not in str(refused.value)
    assert "second" not in str(refused.value)
