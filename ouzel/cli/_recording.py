"""What the operator changes on the command line is recorded like what callers change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ouzel.torchserve.publication import Record

OPERATOR = "operator"  # as whose owner changes are recorded


@contextmanager
def recording(state: Path | None) -> Iterator[Record]:
    """Gives what records changes in the log of a state folder; where no log has begun, nothing is recorded.

    Args:
        state: The state folder; None is the usual one.
    """
    from ouzel.ledger.recorder import Event, Recorder
    from ouzel.ledger.settings import folder_of, known

    folder = folder_of(state)
    recorder = Recorder(folder if known(folder) else None)
    try:
        yield lambda kind, facts: recorder.append(Event(kind, facts, owner=OPERATOR))
    finally:
        recorder.close()
