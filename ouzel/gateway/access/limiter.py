"""How many requests a tenant may send: at a time, and per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from ouzel.errors import ResourceExhausted
from ouzel.gateway.access.caller import TenantLimits

_ROUNDING = 1e-6  # of a request: who waits as long as was said gets in
_CONCURRENCY_WAIT = 1.0  # s: nobody knows when a request that is under way ends


class Limiter:
    """Counts the requests of tenants, in this process. Threads may share it.

    The rate is a token bucket: `burst` requests may come at once, and one more every 1 / `requests_per_second`
    seconds. A tenant's flood takes nothing from the others, and a request that is refused takes nothing at all, so that
    one who asks again too early is not put off for longer. There is state for tenants that have asked; `forget` drops
    those that are gone.

    Args:
        clock: Seconds that do not go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}
        # By tenant: how many of the burst's requests were used, and when that was. The rate gives them back.
        self._used: dict[str, tuple[float, float]] = {}

    @contextmanager
    def admitted(self, tenant: str, limits: TenantLimits) -> Iterator[None]:
        """Counts a request from here to the end of the context.

        Args:
            tenant: Who asks.
            limits: Those in force now.

        Raises:
            ResourceExhausted: Says when to try again.
        """
        self._enter(tenant, limits)
        try:
            yield
        finally:
            with self._lock:
                if (left := self._running[tenant] - 1) > 0:
                    self._running[tenant] = left
                else:
                    del self._running[tenant]

    def running(self, tenant: str) -> int:
        """How many requests of a tenant are under way."""
        return self._running.get(tenant, 0)

    def forget(self, tenants: Collection[str]) -> None:
        """Drops what is known of all but these."""
        with self._lock:
            self._used = {name: value for name, value in self._used.items() if name in tenants}

    def _enter(self, tenant: str, limits: TenantLimits) -> None:
        rate = limits.requests_per_second
        with self._lock:
            running = self._running.get(tenant, 0)
            if running >= limits.concurrency:
                raise ResourceExhausted(
                    f"the tenant {tenant} has {running} requests under way, and may have {limits.concurrency}",
                    retry_after=_CONCURRENCY_WAIT,
                )
            now = self._clock()
            used, at = self._used.get(tenant, (0.0, now))
            used = min(max(0.0, used - (now - at) * rate), limits.burst)  # the burst may have been larger then
            if used > limits.burst - 1 + _ROUNDING:
                raise ResourceExhausted(
                    f"the tenant {tenant} sends more than {rate:g} requests per second (burst: {limits.burst})",
                    retry_after=(used - (limits.burst - 1)) / rate,
                )
            self._used[tenant] = (used + 1, now)
            self._running[tenant] = running + 1
