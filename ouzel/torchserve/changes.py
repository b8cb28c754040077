"""Changes that are recorded while they can still be undone."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from ouzel.buckets import StorageAway
from ouzel.errors import OuzelError
from ouzel.model_files import ModelFile, ModelFiles
from ouzel.torchserve.errors import OutcomeUnknown, ServerUnreachable

# Hears of a change: its kind, as `ouzel.ledger.KINDS` has it, and facts. What it raises undoes the change.
Record = Callable[[str, Mapping[str, Any]], object]
_log = logging.getLogger(__name__)
_SETTLING = 20.0  # s for a storage that went away in the middle of a change
_PAUSE = 0.5  # s between two looks


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
    """Records a change; and, if it is undone later on, that it was; or that whether it took place is not known.

    Args:
        undo: Of `undone_on_failure`.
        record: Hears of it.
        kind: Of the change.
        facts: What changes.
    """
    record(kind, facts)

    def end(_kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        unknown = isinstance(error, OutcomeUnknown) and kind == "promotion"
        _record_end(record, kind, facts, "unknown" if unknown else "undone")

    undo.push(end)


def promoted(undo: ExitStack, record: Record, store: ModelFiles, file: ModelFile, **more: Any) -> None:
    """Records that a version becomes the default, and makes it the default in the store.

    If the storage goes away meanwhile, the store says afterwards whether that took place.

    Args:
        undo: Of `undone_on_failure`.
        record: Hears of it while it can still be undone.
        store: The model store.
        file: The version.
        more: Further facts.

    Raises:
        OutcomeUnknown: The store does not say it.
        OuzelError: The version has not become the default.
    """
    recorded(undo, record, "promotion", {**facts_of(file), **more})
    try:
        store.promote(file.name, file.version)
    except StorageAway as error:
        if not _is_chosen(store, file):  # what was sent may still arrive
            raise OutcomeUnknown(
                f"{error}; it went away while {file.name} {file.version} was made the default: whether it is the "
                "default now is not known"
            ) from error


def _is_chosen(store: ModelFiles, file: ModelFile) -> bool:
    end = time.monotonic() + _SETTLING
    while True:
        try:
            return store.chosen(file.name) == file.version
        except OuzelError as error:
            _log.warning("whether %s %s is the default cannot be seen: %s", file.name, file.version, error)
            if time.monotonic() >= end or not isinstance(error, StorageAway):
                return False
        time.sleep(_PAUSE)


class Withdrawal:
    """An undo step: the store forgets a new version that was tried and failed, or could not be recorded.

    It stays if nobody has tried it, because the storage or TorchServe does not answer, and if it has been made the
    default before. That its publication was undone is recorded if it was.

    Args:
        store: The model store.
        file: The version.
        record: Hears of its publication.
        wanted: Whether it is withdrawn at all.
        kept: Whether it stays for another reason; asked before it is withdrawn.
    """

    def __init__(
        self,
        store: ModelFiles,
        file: ModelFile,
        record: Record,
        *,
        wanted: bool,
        kept: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store, self._file, self._record, self._wanted, self._kept = store, file, record, wanted, kept
        self._published: Mapping[str, Any] | None = None

    def published(self, **more: Any) -> None:
        """Records the publication."""
        facts = {**facts_of(self._file), **more}
        self._record("publication", facts)
        self._published = facts

    def __call__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Withdraws the version because of an error."""
        untried = (ServerUnreachable, StorageAway, OutcomeUnknown)
        if not self._wanted or not isinstance(error, OuzelError) or isinstance(error, untried):
            return
        if not self._kept() and self._store.withdraw_unchosen(self._file) and self._published is not None:
            _record_end(self._record, "publication", self._published, "undone")


def _record_end(record: Record, kind: str, facts: Mapping[str, Any], end: str) -> None:
    try:
        record(kind, {**facts, end: True})
    except OuzelError as error:  # the error that ended the change is the one to be told
        _log.error("that a %s is %s could not be recorded: %s", kind, end, error)
