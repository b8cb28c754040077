"""Rates, deadlines and retries: how often and how long an endpoint is asked."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from ouzel.endpoints.description.config import Limits
from ouzel.errors import OuzelError, Unavailable

_T = TypeVar("_T")
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0  # seconds before the first retry, doubled from one to the next


class PassingError(Exception):
    """An attempt failed in a way that may pass.

    Attributes:
        error: For the caller, if no attempt is left.
        retry_after: Seconds that the service asks to wait; 0 if it does not say.
    """

    def __init__(self, error: OuzelError, retry_after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class TokenBucket:
    """A limit of rate, shared by threads: `burst` tokens, and one more every 1 / `rate` seconds.

    Args:
        rate: Tokens per second.
        burst: Tokens of a full bucket.
        clock: Seconds that do not go back.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = 1 / rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._full = clock()  # when the bucket will be full again

    def reserve(self) -> float:
        """Take a token, if need be one that is still to come; returns the seconds until it is there."""
        with self._lock:
            now = self._clock()
            self._full = max(self._full, now) + self._seconds
            return max(0.0, self._full - now - self._burst * self._seconds)


class Attempts:
    """Makes requests within the limits of an endpoint.

    Args:
        who: The endpoint, for messages.
        limits: Of it.
        clock: Seconds that do not go back.
    """

    def __init__(self, who: str, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._who = who
        self._limits = limits
        self._clock = clock
        self._bucket = TokenBucket(limits.requests_per_second, limits.concurrency, clock)

    def run(self, attempt: Callable[[float], _T], stop: threading.Event) -> _T:
        """Make one request, again where that may help.

        Args:
            attempt: Takes the seconds that it may use, and raises PassingError if another attempt may help.
            stop: Set if the answer is no longer of use.

        Returns:
            What `attempt` returns.

        Raises:
            OuzelError: The last attempt failed, or the time is over.
        """
        self._wait(self._bucket.reserve(), stop)
        deadline = self._clock() + self._limits.timeout_s
        for number in range(self._limits.retries + 1):
            try:
                return attempt(max(deadline - self._clock(), 0.001))
            except PassingError as failed:
                if number == self._limits.retries:
                    raise failed.error from None
                wait = max(min(_FIRST_WAIT * 2**number, _LONGEST_WAIT) * random.uniform(0.5, 1), failed.retry_after)
                wait = max(wait, self._bucket.reserve())
                if self._clock() + wait >= deadline:
                    raise self._too_late(failed) from None
                self._wait(wait, stop)
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, seconds: float, stop: threading.Event) -> None:
        if stop.wait(seconds):
            raise Unavailable(f"{self._who}: another request failed")

    def _too_late(self, failed: PassingError) -> OuzelError:
        more = f"; it asks to wait {failed.retry_after:g} s" if failed.retry_after else ""
        return Unavailable(f"{failed.error}{more}; no time is left for a retry (timeout_s: {self._limits.timeout_s:g})")
