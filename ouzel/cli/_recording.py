"""What the operator changes on the command line is recorded like what callers change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ouzel.errors import FailedPrecondition
from ouzel.ledger_folder import folder_of, known

if TYPE_CHECKING:
    from ouzel.torchserve.publication import Record

OPERATOR = "operator"  # as whose owner changes are recorded


@contextmanager
def recording(state: Path | None) -> Iterator[Record]:
    """Gives what records changes in the log of a state folder; where no log has begun, nothing is recorded.

    Args:
        state: The state folder; None is the usual one.
    """
    with appending(state) as append:
        yield append


@contextmanager
def appending(state: Path | None) -> Iterator[Callable[..., object]]:
    """The same for events of all forms: what it gives takes the arguments of `ouzel.ledger.recorder.Event`."""
    folder = folder_of(state)
    if not known(folder):
        yield lambda _kind, _facts, **_rest: None
        return
    try:
        from ouzel.ledger.recorder import Event, Recorder
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"{folder} holds a log, and {error.name} is not installed to write to it; run `pip install 'ouzel[ledger]'`"
        ) from error
    recorder = Recorder(folder)
    try:
        yield lambda kind, facts, **rest: recorder.append(Event(kind, facts, owner=OPERATOR, **rest))
    finally:
        recorder.close()
