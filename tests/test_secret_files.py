"""Files that others may read: secrets in them are refused, and logs are not made so."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ouzel import secret_files
from ouzel.endpoints.description.secrets import Secret
from ouzel.errors import FailedPrecondition, InvalidArgument, Unavailable
from ouzel.gateway.access.tls import Tls, TlsFiles
from ouzel.gateway.worker.place import WorkerPlace, token_of
from ouzel.telemetry.metrics import MetricsOptions, registry, served
from ouzel.worker.api import tokens
from support.front_door import Certificates


@pytest.fixture
def usual() -> Iterator[None]:
    """The umask that shells have."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("acme token-0123456789abcdef\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_what_is_ones_own_is_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    secret_files.check(secret)
    assert secret_files.read(secret).startswith("acme")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620, 0o601])
def test_what_others_may_use_is_refused_in_words(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    for use in (secret_files.check, secret_files.read):
        with pytest.raises(FailedPrecondition) as caught:
            use(secret, "worker_tokens")
        assert str(caught.value) == (
            f"worker_tokens: others may use {secret} (mode {mode:04o}), which holds a secret; run chmod 600 {secret}"
        )
        assert caught.value.field == "worker_tokens"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_a_file_of_somebody_else_may_be_its_groups_to_read(secret: Path) -> None:
    """As secrets are mounted into containers."""
    os.chown(secret, 12345, -1)
    secret.chmod(0o640)
    secret_files.check(secret)
    for mode in (0o660, 0o644):
        secret.chmod(mode)
        with pytest.raises(FailedPrecondition):
            secret_files.check(secret)


def test_what_is_no_file_of_its_kind(tmp_path: Path, secret: Path) -> None:
    with pytest.raises(FileNotFoundError):
        secret_files.read(tmp_path / "none")
    with pytest.raises(InvalidArgument, match=r"^x: .*cannot be read"):
        secret_files.check(tmp_path / "none", "x")
    secret.write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="is not UTF-8"):
        secret_files.read(secret)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    secret_files.check(pipe)  # as `<(command)` of a shell


def test_every_reader_of_secrets_refuses(secret: Path, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    Tls(TlsFiles(certificates.certificate, certificates.key))
    assert token_of("acme", WorkerPlace("localhost:1"), secret) == "token-0123456789abcdef"
    for each in (secret, certificates.key):
        each.chmod(0o644)
    with pytest.raises(FailedPrecondition, match=r"^tls_key: others"):
        Tls(TlsFiles(certificates.certificate, certificates.key))
    with pytest.raises(FailedPrecondition, match=r"^tokens: others"):
        tokens.read(secret)
    with pytest.raises(FailedPrecondition, match="others"):
        tokens.own(secret)
    with pytest.raises(FailedPrecondition, match="others"):
        Secret(file=secret).reveal()
    with (
        pytest.raises(FailedPrecondition, match=r"^metrics_token_file: others"),
        served(registry(), MetricsOptions(0, token_file=secret)),
    ):
        pass
    with pytest.raises(Unavailable) as caught:  # while it runs; callers hear no path
        token_of("acme", WorkerPlace("localhost:1"), secret)
    assert str(secret) not in str(caught.value)


def test_logs_are_for_their_user_alone(tmp_path: Path, usual: None) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"before\n")
    assert stat.S_IMODE(log.stat().st_mode) == 0o644  # the umask is such
    with secret_files.open_log(log, append=True) as file:
        file.write(b"after\n")
    assert (log.read_bytes(), stat.S_IMODE(log.stat().st_mode)) == (b"before\nafter\n", 0o600)
    with secret_files.open_log(tmp_path / "new") as file:
        file.write(b"x")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
    with secret_files.open_log(log):
        pass
    assert log.read_bytes() == b""
