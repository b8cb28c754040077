"""Refusing early what would be answered too late, by the measured time of what was answered before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ouzel.errors import ResourceExhausted

_MEMORY = 64.0  # rows after which what was measured counts half
_KNOWN = 4.0  # rows from which the measured time counts


class Load:
    """The rows of one model that are under way, and how fast they leave.

    The time per row is the time in which anything was under way, over the rows that were answered in it: batches and
    several workers count as what they are. Rows of other costs move it only as fast as they come. Time in which nothing
    computed because a process had died says nothing of later rows, and does not count.

    Args:
        most: Rows that may be under way.
        clock: In seconds.
        stalled: Seconds so far in which nothing computed although rows were under way.
    """

    def __init__(
        self, most: int, clock: Callable[[], float] = time.monotonic, stalled: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._most, self._clock, self._stalled = most, clock, stalled
        self.rows = 0
        self._spent = self._done = 0.0
        self._since = self._stalls = 0.0

    @property
    def seconds_per_row(self) -> float:
        """As measured; 0 before there is enough to measure."""
        return self._spent / self._done if self._done >= _KNOWN else 0.0

    @contextmanager
    def room(self, rows: int, deadline: float) -> Iterator[None]:
        """The room for some rows, as long as they are under way.

        Args:
            rows: How many.
            deadline: On the clock.

        Raises:
            ResourceExhausted: Too many are under way, or by the time that others took these would be answered too
                late. The first ones of an idle model are always let in.
        """
        now = self._clock()
        each = self.seconds_per_row
        if self.rows + rows > self._most:
            raise ResourceExhausted(
                f"{self.rows} rows are under way, {rows} more would be more than {self._most}",
                retry_after=max(each * rows, 0.1),
            )
        wait = each * (self.rows + rows)
        if self.rows and now + wait > deadline:
            raise ResourceExhausted(
                f"the answer would take about {wait:.3g} s, the caller waits for {max(deadline - now, 0):.3g} s",
                retry_after=max(each * self.rows, 0.05),
            )
        self._pass(now)
        self.rows += rows
        done = 0
        try:
            yield
            done = rows
        finally:
            self._pass(self._clock())
            self.rows -= rows
            self._done += done
            if self._done > _MEMORY:
                self._done, self._spent = self._done / 2, self._spent / 2

    def _pass(self, now: float) -> None:
        stalls = self._stalled()
        if self.rows:
            self._spent += max(now - self._since - (stalls - self._stalls), 0.0)
        self._since, self._stalls = now, stalls
