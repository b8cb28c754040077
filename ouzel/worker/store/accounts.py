"""What owners have used, and what jobs cost: what quotas and quotes ask of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ouzel.worker.store.roster import Roster
from ouzel.worker.store.usage import Today, Used


class AccountStore(Protocol):
    """What is asked for usage, quotas and quotes."""

    def usage(self, owner: str | None, days: int) -> Sequence[Used]:
        """What was used, newest day first.

        Args:
            owner: Whose; None for all.
            days: UTC days, with today.
        """

    def today(self) -> Mapping[str, tuple[float, float]]:
        """Seconds and GPU seconds of today, by owner."""

    def today_of(self, owner: str) -> Today:
        """What one owner has used today."""

    def artifact_bytes_by_owner(self) -> Mapping[str, int]:
        """Size of the artifacts of each owner; one that several jobs have counts once."""

    def artifact_bytes_of(self, owner: str) -> int:
        """The same of one owner."""

    def measured(self, kind: str, scale: str, gpus: float) -> Sequence[tuple[float, float]]:
        """Units of work and seconds of jobs that were measured."""

    def roster(self) -> Roster:
        """The workers of the store."""

    def clock(self) -> float:
        """Seconds since the epoch by the clock that reservations go by."""

    def reserve(self, owner: str, name: str, size: int, *, stored: int, seen: float, limit: int) -> int | None:
        """Reserves bytes; `reservations.reserve` says what of."""

    def renew(self, owner: str, name: str, size: int) -> None:
        """Has a reservation live on."""

    def reservation_done(self, name: str) -> None:
        """Notes that its bytes are stored."""

    def release(self, name: str) -> None:
        """Ends a reservation whose bytes do not come."""

    def reserved(self, owner: str) -> int:
        """Bytes that are on their way."""
