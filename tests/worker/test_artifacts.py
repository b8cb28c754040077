"""Files by their content: whole or not there, and never believed without a look."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from ouzel.errors import DataLoss, NotFound, ResourceExhausted
from ouzel.worker.artifacts import CHUNK, Artifacts


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "files")


def stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(3 * CHUNK + 5)])
def test_what_is_put_can_be_got(artifacts: Artifacts, content: bytes) -> None:
    digest, size = artifacts.put(content)
    assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert artifacts.get(digest) == content
    assert artifacts.put(iter([content[:1], content[1:]])) == (digest, size)
    for offset in (0, 1, CHUNK, len(content)):
        chunks = list(artifacts.read(digest, offset))
        assert b"".join(chunks) == content[offset:]
        assert all(len(chunk) <= CHUNK for chunk in chunks)


@pytest.mark.parametrize("damage", [lambda raw: b"y" + raw[1:], lambda raw: raw[:-1], lambda raw: raw + b"x"])
def test_a_damaged_file_is_not_given_out(artifacts: Artifacts, tmp_path: Path, damage: Any) -> None:
    digest, _ = artifacts.put(b"x" * 100)
    (path,) = stored(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataLoss, match=digest):
        list(artifacts.read(digest))


@pytest.mark.parametrize("digest", ["0" * 64, "", "../../etc/passwd", "0" * 63, "G" * 64])
def test_unknown_digests(artifacts: Artifacts, digest: str) -> None:
    with pytest.raises(NotFound):
        artifacts.get(digest)


def test_a_full_disk_leaves_nothing(artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync is faked to fail as on a full disk."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ResourceExhausted, match="full"):
            artifacts.put(b"x" * 100)
    assert not stored(tmp_path)
    assert artifacts.put(b"x")


def test_a_source_that_fails_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    def source() -> Any:
        yield b"x"
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - the very error of the source
        artifacts.put(source())
    assert not stored(tmp_path)


def test_collection_spares_what_is_young_or_referred_to(artifacts: Artifacts, tmp_path: Path) -> None:
    old, kept, young = (artifacts.put(name)[0] for name in (b"old", b"kept", b"young"))
    left = tmp_path / "files" / "incoming" / "left"
    left.write_bytes(b"of a process that was killed")
    for path in stored(tmp_path):
        if path.name != young:
            os.utime(path, (1, 1))
    assert artifacts.collect(lambda digests: {kept} & set(digests)) == 2
    assert {path.name for path in stored(tmp_path)} == {kept, young}
    assert old not in {path.name for path in stored(tmp_path)}
