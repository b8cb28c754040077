"""The reason why a model does not load is found in the log."""

from __future__ import annotations

from ouzel.torchserve import log


def worker(*messages: str, model: str = "net") -> str:
    return "".join(f"2026-01-02T03:04:05,678 INFO  [W-9000-{model}_1-stdout] MODEL_LOG - {each}\n" for each in messages)


DIED = "2026-01-02T03:04:05,678 WARN  [W-9000-net_1] BatchAggregator - Load model failed: net, error: Worker died.\n"
TRACE = ("Traceback (most recent call last):", '  File "toy.py", line 1', "    import x")
AGAIN = ("", "During handling of the above exception, another exception occurred:", "")


def test_exception_of_the_handler() -> None:
    text = worker("Torch worker started.", *TRACE, "ValueError: no such layer", "other output") + DIED
    assert log.load_failed(text, "net")
    assert log.reason(text, "net") == "ValueError: no such layer"


def test_exceptions_of_torchserve_do_not_hide_it() -> None:
    wrapped = worker(*TRACE, "RuntimeError: bad weights", "Backend worker process died.", *TRACE)
    assert log.reason(wrapped + worker("RuntimeError: 500 - Unknown exception"), "net") == "RuntimeError: bad weights"
    guess = worker(
        *TRACE, "ImportError: no x", *AGAIN, *TRACE, "ModuleNotFoundError: No module named 'ts.torch_handler.toy'"
    )
    assert log.reason(guess, "net") == "ImportError: no x"


def test_lines_of_the_frontend_between_those_of_the_worker() -> None:
    assert log.reason(worker(*TRACE) + DIED + worker("KeyError: 'digest'"), "net") == "KeyError: 'digest'"


def test_other_models_do_not_matter() -> None:
    text = worker(*TRACE, "ValueError: theirs", model="net-2") + DIED.replace("net", "net-2")
    assert not log.load_failed(text, "net")
    assert log.reason(text, "net") is None


def test_archive_that_the_frontend_cannot_read() -> None:
    text = (
        "2026-01-02T03:04:05,678 WARN  [main] ModelServer - Failed to load model: net.mar\n"
        "org.pytorch.serve.archive.model.InvalidModelException: Missing runtime\n\tat org.pytorch.Archive.read\n"
    )
    assert log.load_failed(text, "net")
    assert log.reason(text, "net") == "Missing runtime"
