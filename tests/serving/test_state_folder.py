"""The state folder: lock, record, and what clients read from it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import psutil
import pytest

from ouzel.errors import FailedPrecondition
from ouzel.serving import AlreadyRunning, state_folder
from ouzel_protos.local import SERVING, Serving, read_serving, state_dir, token


def mine(state: Path) -> Serving:
    """A record that names this very process."""
    return {
        "pid": os.getpid(),
        "create_time": psutil.Process().create_time(),
        "grpc": "127.0.0.1:7070",
        "rest": "http://127.0.0.1:8080",
        "management": "http://127.0.0.1:8081",
        "metrics": "http://127.0.0.1:8082",
        "key_file": str(state / "key_file.json"),
        "model_store": "/models",
        "models": ["net"],
    }


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_state_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OUZEL_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert state_dir() == tmp_path / ".local" / "state" / "ouzel"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert state_dir() == tmp_path / "xdg" / "ouzel"
    for ignored in ("", "relative", "~/tilde"):  # as the XDG specification says of what is not absolute
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert state_dir() == tmp_path / ".local" / "state" / "ouzel"
    monkeypatch.setenv("OUZEL_STATE", "~/own")
    assert state_dir() == tmp_path / "own"


def test_record_is_private_and_read_back(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    state_folder.prepare(state)
    assert read_serving(state) is None
    state_folder.record(state, mine(state))
    assert read_serving(state) == mine(state)
    assert mode(state) == 0o700
    assert mode(state / SERVING) == 0o600
    assert os.listdir(state) == [SERVING]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_record_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / SERVING).write_text(text)
    assert read_serving(tmp_path) is None


def test_record_of_a_process_that_is_gone_counts_as_nothing(tmp_path: Path) -> None:
    state_folder.record(tmp_path, mine(tmp_path))
    assert state_folder.running(tmp_path) == mine(tmp_path)
    state_folder.record(
        tmp_path, {**mine(tmp_path), "create_time": psutil.Process().create_time() - 100}
    )  # a recycled id
    assert state_folder.running(tmp_path) is None


def test_one_at_a_time(tmp_path: Path) -> None:
    with state_folder.locked(tmp_path):
        with pytest.raises(AlreadyRunning, match="another `ouzel up`"), state_folder.locked(tmp_path):
            pass
        state_folder.record(tmp_path, mine(tmp_path))
        with (
            pytest.raises(AlreadyRunning, match=rf"127\.0\.0\.1:7070.*process {os.getpid()}"),
            state_folder.locked(tmp_path),
        ):
            pass
    with state_folder.locked(tmp_path):
        pass


def test_runs_are_private_and_cleared(tmp_path: Path) -> None:
    run = state_folder.new_run(tmp_path)
    assert mode(run) == 0o700
    (run / "models").mkdir()
    state_folder.record(tmp_path, mine(tmp_path))
    (tmp_path / state_folder.LOG).touch()
    assert not state_folder.clear(tmp_path)  # nothing ran
    assert os.listdir(tmp_path) == [state_folder.LOG]


def test_path_too_long_for_sockets(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="too long"):
        state_folder.new_run(tmp_path / ("x" * 100))


def test_token(tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    keys.write_text(json.dumps({"management": {"key": "m"}, "inference": {"key": "i"}, "API": {"key": "a"}}))
    assert (token(keys, "inference"), token(keys, "management")) == ("i", "m")
    keys.write_text("{}")
    with pytest.raises(ValueError, match=r"key_file\.json holds no inference token"):
        token(keys, "inference")
