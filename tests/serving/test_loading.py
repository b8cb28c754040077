"""What a user sees while models load."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from ouzel.cli.model_loading import loading_shown, unloaded_said
from ouzel.serving import loading
from ouzel.serving.errors import StartFailed
from ouzel.serving.loading import Loading, Tell
from ouzel.torchserve.archives import Archive
from ouzel.torchserve.management import Settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show() -> None:
    with loading_shown() as tell:
        for number, model in enumerate(("a", "b"), 1):
            tell(Loading(model, "3", number, 2))
            tell(Loading(model, "3", number, 2, 1.26))


def fail_after(tell: Tell) -> None:
    tell(Loading("a", "1", 1, 1))
    raise ZeroDivisionError


def test_a_line_per_model_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    assert capsys.readouterr() == ("", "a 3 is ready (1 of 2, 1.3 s)\nb 3 is ready (2 of 2, 1.3 s)\n")


def test_a_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    show()
    wiped = "\r\033[K"
    assert terminal.getvalue() == "".join(
        f"{wiped}Loading {name} 3 ({place}) ...{wiped}{name} 3 is ready ({place}, 1.3 s)\n"
        for name, place in (("a", "1 of 2"), ("b", "2 of 2"))
    )


def test_an_error_gets_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(ZeroDivisionError), loading_shown() as tell:
        fail_after(tell)
    assert terminal.getvalue().endswith("...\r\033[K")


def test_what_is_not_loaded_is_named() -> None:
    few = unloaded_said([("a", "1"), ("b", "2")])
    assert few == "Not loaded: a@1, b@2; `ouzel models load NAME@VERSION` loads one."
    assert "a@1, a@2, a@3 and 4 more;" in unloaded_said([("a", str(number)) for number in range(1, 8)])


class Serving:
    pid, grpc, inference_token = 0, "127.0.0.1:1", ""  # where nothing listens

    def poll(self) -> None:
        return None


def test_at_a_restart_one_bad_model_does_not_keep_the_others_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def wait_for_model(_serving: object, name: str, *_: object) -> None:
        asked.append(name)
        if name in bad:
            raise StartFailed(f"model {name} does not load")

    monkeypatch.setattr(loading.readiness, "wait", lambda *_: None)
    monkeypatch.setattr(loading.readiness, "wait_for_model", wait_for_model)
    monkeypatch.setattr(loading, "begin", lambda *_: None)
    monkeypatch.setattr(Serving, "server", None, raising=False)
    archives = [Archive(name, "1", Path(f"{name}.mar")) for name in "abc"]
    how = Settings(1, 1, 1, 1, 1)
    bad = {"a", "c"}
    loading.load(Serving(), archives, how, 1, lenient=True)  # type: ignore[arg-type]
    assert asked == ["a", "b", "c"]
    with pytest.raises(StartFailed, match="model a"):
        loading.load(Serving(), archives, how, 1)  # type: ignore[arg-type]
    bad = {"a", "b", "c"}
    with pytest.raises(StartFailed, match="model c"):
        loading.load(Serving(), archives, how, 1, lenient=True)  # type: ignore[arg-type]
