"""What became of each event.

Every event that was received has one of these outcomes, so that

    received = malformed + ignored + duplicate + dropped + unsampled + half + waiting + queued + audited + failed

holds after each transaction. All are counts of events; a pair has two.
"""

from __future__ import annotations

from typing import Final

from ouzel.databases.database import Connection

RECEIVED: Final = "received"
MALFORMED: Final = "malformed"  # not an event; the reason says why
IGNORED: Final = "ignored"  # of another service, or of another type
DUPLICATE: Final = "duplicate"  # the same half of the same pair came before
DROPPED: Final = "dropped"  # for want of room; the reason says of which
UNSAMPLED: Final = "unsampled"  # not drawn, and no condition holds
HALF: Final = "half"  # the other half did not come in time
WAITING: Final = "waiting"  # for the other half
QUEUED: Final = "queued"  # for the audit
AUDITED: Final = "audited"
FAILED: Final = "failed"  # could not be audited; the reason says why

LIVE = (WAITING, QUEUED)  # all others are final
OUTCOMES = (MALFORMED, IGNORED, DUPLICATE, DROPPED, UNSAMPLED, HALF, WAITING, QUEUED, AUDITED, FAILED)

Counts = dict[str, dict[str, dict[str, int]]]


def count(connection: Connection, service: str, outcome: str, n: int = 1, reason: str = "") -> None:
    """Counts events.

    Args:
        connection: In a transaction.
        service: Name of it; "" if the event names none.
        outcome: One of the above.
        n: How many; negative where events leave a state.
        reason: In a word.
    """
    connection.run(
        "INSERT INTO counts VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
        service,
        outcome,
        reason,
        n,
    )


def read(connection: Connection) -> Counts:
    """All counts, by service, outcome and reason."""
    counts: Counts = {}
    for service, outcome, reason, n in connection.all("SELECT service, outcome, reason, n FROM counts"):
        counts.setdefault(service, {}).setdefault(outcome, {})[reason] = n
    return counts


def totals(counts: Counts) -> dict[str, int]:
    """Over all services and reasons."""
    made = dict.fromkeys((RECEIVED, *OUTCOMES), 0)
    for service in counts.values():
        for outcome, reasons in service.items():
            made[outcome] += sum(reasons.values())
    return made
