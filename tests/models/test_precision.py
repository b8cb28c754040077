"""The context that sets the arithmetic: what is in force within, what is left afterwards, and what threads see."""

from __future__ import annotations

import threading

import pytest
import torch

from ouzel.errors import InvalidArgument
from ouzel.models import computing, forward_pass
from ouzel.precision_names import PRECISIONS, Precision, check_precision
from support.arithmetic import expected, fp32_precisions, seen, set_by_user

CPU = torch.device("cpu")
IEEE, TF32 = expected("ieee"), expected("tf32")


@pytest.mark.parametrize("generation", ["nothing", "older", "newer"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_in_force_within_and_what_is_left(precision: Precision, generation: str) -> None:
    with set_by_user(generation):
        before = fp32_precisions()
        with computing(precision):
            assert seen() == (TF32 if precision == "tf32" else IEEE)
        with forward_pass(precision, CPU):
            inside = seen()
        assert inside == expected("tf32" if precision == "tf32" else "ieee", autocast=precision == "bf16")
        assert fp32_precisions() == before
        assert not torch.is_autocast_enabled("cpu")


def test_older_flags_are_left_as_they_were() -> None:
    with set_by_user("older"):
        before = seen()
        assert (before["matmul.allow_tf32"], before["float32_matmul_precision"]) == (True, "medium")
        assert before["mkldnn.matmul"] == "bf16"
        assert before["fp16 accumulation"]
        with computing():
            assert seen() == IEEE
        assert seen() == before


def test_a_flag_that_follows_another_still_follows_it() -> None:
    with set_by_user("newer"):
        assert torch.backends.mkldnn.conv.fp32_precision == "tf32"
        with computing():
            pass
        torch.backends.fp32_precision = "ieee"
        assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"


def test_nested() -> None:
    before = seen()
    with computing():
        with computing("tf32"):
            assert seen() == TF32
            with computing():
                assert seen() == IEEE
            assert seen() == TF32
        assert seen() == IEEE
        with forward_pass("bf16", CPU), computing():
            assert seen() == IEEE
    assert seen() == before


@computing()
def _fail() -> None:
    with computing("tf32"):
        raise ZeroDivisionError


def test_after_an_exception() -> None:
    before = seen()
    with pytest.raises(ZeroDivisionError):
        _fail()
    assert seen() == before


def test_autocast_of_the_caller_is_off_within() -> None:
    x = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with computing():
            assert not torch.is_autocast_enabled("cpu")
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


class Thread:
    """Another thread that computes until it is told to end."""

    def __init__(self, precision: Precision) -> None:
        self._inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(precision,), daemon=True)

    def _run(self, precision: Precision) -> None:
        with computing(precision):
            self._inside.set()
            self._leave.wait(30)

    def start(self) -> None:
        self._thread.start()
        assert self._inside.wait(30)

    def end(self) -> None:
        self._leave.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_exact_wins_over_other_threads_and_is_not_given_up_for_them() -> None:
    before = seen()
    fast = Thread("tf32")
    fast.start()
    assert seen() == TF32  # the flags are the process's
    with computing():
        assert seen() == IEEE
        with computing("tf32"):  # this thread has given exactness up for a while, and no other asks for it
            assert seen() == TF32
        other = Thread("tf32")
        other.start()
        assert seen() == IEEE
        other.end()
        assert seen() == IEEE
    assert seen() == TF32
    fast.end()
    assert seen() == before


def test_the_last_thread_gives_the_flags_back() -> None:
    with set_by_user("older"):
        before = seen()
        threads = [Thread("exact"), Thread("exact")]
        for each in threads:
            each.start()
        threads[0].end()
        assert seen() == IEEE
        threads[1].end()
        assert seen() == before


def test_many_threads_at_once() -> None:
    before, wrong = seen(), list[object]()

    def work(precision: Precision) -> None:
        for _ in range(200):
            with computing(precision):
                found = fp32_precisions()
                if precision == "exact" and set(found.values()) != {"ieee"}:
                    wrong.append(found)

    chosen: tuple[Precision, ...] = ("exact", "tf32", "exact", "bf16")
    threads = [threading.Thread(target=work, args=(precision,)) for precision in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert seen() == before


def test_unknown_names_are_refused_with_the_list() -> None:
    with pytest.raises(InvalidArgument, match="not one of exact, tf32, bf16; did you mean 'tf32'"):
        check_precision("precision", "tf23")
