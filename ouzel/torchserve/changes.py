"""Changes that are recorded while they can still be undone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from ouzel.errors import OuzelError
from ouzel.model_files import ModelFile

# Hears of a change: its kind, as `ouzel.ledger.KINDS` has it, and facts. What it raises undoes the change.
Record = Callable[[str, Mapping[str, Any]], object]
_log = logging.getLogger(__name__)


def nothing(_kind: str, _facts: Mapping[str, Any]) -> None:
    """Records nothing."""


def facts_of(file: ModelFile) -> dict[str, Any]:
    """What an entry says of a version."""
    return {"model": file.name, "version": file.version, "digest": file.digest}


@contextlib.contextmanager
def undone_on_failure() -> Iterator[ExitStack]:
    """If the block fails, what was pushed on the stack is called, the last first; else nothing of it."""
    with ExitStack() as undo:
        yield undo
        undo.pop_all()


def recorded(undo: ExitStack, record: Record, kind: str, facts: Mapping[str, Any]) -> None:
    """Records a change; and, if it is undone later on, that it was.

    Args:
        undo: Of `undone_on_failure`.
        record: Hears of it.
        kind: Of the change.
        facts: What changes.
    """
    record(kind, facts)
    undo.callback(_record_undone, record, kind, facts)


def _record_undone(record: Record, kind: str, facts: Mapping[str, Any]) -> None:
    try:
        record(kind, {**facts, "undone": True})
    except OuzelError as error:  # the error that undid the change is the one to be told
        _log.error("that a %s was undone could not be recorded: %s", kind, error)
