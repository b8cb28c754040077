"""Reading from TorchServe's log why a model did not load."""

from __future__ import annotations

import json
import re
from pathlib import Path

FILE = "torchserve.log"  # in the state folder

# The layout is that of log4j2.xml; workers' output comes from threads named W-PORT-NAME_VERSION-stdout or -stderr.
_LINE = re.compile(r"\S+ (?:[A-Z]+) +\[(?P<thread>[^\]]*)\] (?P<logger>\S+) - (?P<message>.*)")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: .+)?$")
_TRACEBACK = "Traceback (most recent call last):"
_WRAPPERS = (
    "RuntimeError: 500 - ",  # what TorchServe's worker raises after it has reported the handler's error
    "RuntimeError: 507 - ",
    "ModuleNotFoundError: No module named 'ts.torch_handler.",  # its second guess, after the handler failed to import
)


def load_failed(text: str, model: str) -> bool:
    """Whether the log says that a model did not load: a worker failed or died, or the archive could not be read.

    Args:
        text: The log.
        model: The model's name.
    """
    name = re.escape(model)
    complaints = rf"Load model failed: {name},|Failed to load model:? {name}\b|Load model {name} (cpu|cuda) OOM"
    return re.search(complaints, text) is not None


def reason(text: str, model: str) -> str | None:
    """The exception because of which a model did not load.

    Args:
        text: The log.
        model: The model's name.

    Returns:
        One line; None if the log has no exception.
    """
    exceptions = [each for each in _exceptions(text, model) if not each.startswith(_WRAPPERS)]
    return exceptions[-1] if exceptions else _java_exception(text, model)


def _exceptions(text: str, model: str) -> list[str]:
    """The last lines of all Python tracebacks in the output of the workers of `model`."""
    exceptions, inside = [], False
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match or match["logger"] != "MODEL_LOG" or f"-{model}_" not in match["thread"]:
            continue
        message = match["message"]
        if message == _TRACEBACK:
            inside = True
        elif inside and message and not message[0].isspace():
            exceptions.append(message)
            inside = False
    return exceptions


def _java_exception(text: str, model: str) -> str | None:
    """The exception that follows the complaint of the frontend about `model`."""
    _, _, after = text.partition(f"Failed to load model: {model}")
    for line in after.splitlines()[1:]:
        if _EXCEPTION.match(line):
            return line.rpartition("Exception: ")[2]
    return None


def read(path: Path, start: int = 0) -> str:
    """The log so far, as lines of text also where it is written as JSON; empty before TorchServe has opened it.

    Args:
        path: The file.
        start: Bytes of it that are passed over.
    """
    try:
        content = path.read_bytes()[start:]
    except FileNotFoundError:
        return ""
    return "\n".join(map(_text, content.decode("utf-8", errors="replace").splitlines()))


def _text(line: str) -> str:
    """A line of `log4j2-json.xml` as `log4j2.xml` has it; others stay as they are."""
    if not line.startswith("{"):
        return line
    try:
        event = json.loads(line)
        line = f"{event['time']} {event['level']:5} [{event['thread']}] {event['logger']} - {event['message']}"
        return f"{line}\n{event['exception']}".rstrip()
    except (ValueError, TypeError, KeyError):
        return line


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
