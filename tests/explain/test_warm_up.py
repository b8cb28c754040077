"""What a worker does before its first caller."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from ouzel.explain import ExplainService, memory
from ouzel.models import Model


@pytest.mark.parametrize(("bound", "batches"), [("", [1, 8]), ("1", [1]), ("4", [1, 4])])
def test_it_answers_a_batch_of_each_size_once(
    bound: str, batches: list[int], tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUZEL_WARM_UP_ROWS", bound)
    service = ExplainService(tiny)
    seen: list[int] = []
    answer = service.answer

    def counted(requests: object) -> object:
        replies = answer(requests)  # type: ignore[arg-type]
        assert all(reply.http == 200 and len(reply.envelope.saliency) == 2 for reply in replies)
        seen.append(len(replies))
        return replies

    monkeypatch.setattr(service, "answer", counted)
    for rows in (1, 8, 1):
        service.warm_up(rows)
    assert seen == batches


def test_the_faster_format_is_remembered_where_it_is_told(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUZEL_MEMORY_FORMATS", str(tmp_path / "known"))
    ExplainService(tiny)
    (file,) = (tmp_path / "known").iterdir()
    assert file.read_text().strip() in ("contiguous", "channels_last")
    assert (tmp_path / "known").stat().st_mode & 0o077 == 0


def test_memory_is_kept_where_the_allocator_gives_none_back(monkeypatch: pytest.MonkeyPatch) -> None:
    memory.give_back()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory.give_back()
