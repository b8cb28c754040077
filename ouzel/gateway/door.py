"""The way in to predictions, the same for all protocols: admission, deadlines, shedding, and what is under way."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from ouzel.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    OuzelError,
    Unauthenticated,
    Unavailable,
)
from ouzel.gateway import owned
from ouzel.gateway.access.caller import BEHALF, Access, Caller
from ouzel.gateway.access.certificate import Certificate
from ouzel.gateway.engine import Description, Engine, Row
from ouzel.gateway.observing.metrics import GatewayMetrics
from ouzel.gateway.observing.observer import Observer
from ouzel.gateway.observing.statistics import Counts, Statistics
from ouzel.gateway.reading import Reading
from ouzel.gateway.shedding import Load
from ouzel.gateway.under_way import UnderWay
from ouzel.model_names import check_name, check_version
from ouzel_protos.v1 import explain_pb2 as pb

T = TypeVar("T")
_MOST_LOADS = 4096
_called: ContextVar[str] = ContextVar("called", default="")


class Door:
    """Answers predictions of callers who are admitted.

    Args:
        engine: What answers.
        access: Who may.
        denied: Hears of each refusal by `access`: what was called, and the code of the error.
        most_rows: Rows of one model that may be under way.
        most_seconds: That a call may take; callers who name no time get this one.
        metrics: That count what passes; None counts in a registry that nobody reads.
    """

    def __init__(
        self,
        engine: Engine,
        access: Access,
        *,
        denied: Callable[[str, str], None] = lambda _called, _code: None,
        most_rows: int = 512,
        most_seconds: float = 120.0,
        metrics: GatewayMetrics | None = None,
    ) -> None:
        self.engine, self.access, self._denied = engine, access, denied
        self._most_rows, self._most_seconds = most_rows, most_seconds
        self._metrics = metrics or GatewayMetrics()
        self.observer = Observer(self._metrics)
        self._loads: dict[tuple[str, str], Load] = {}
        self._statistics = Statistics()
        self.under_way, self.reading = UnderWay(), Reading()
        self._metrics.watch("calls_under_way", "Calls that are being answered.", lambda: self.under_way.count)
        self._metrics.watch("rows_under_way", "Rows that the engine has, or that wait for it.", self._rows)

    def deadline(self, seconds: float | None) -> float:
        """When a call must have ended, on the clock of `time.monotonic`.

        Args:
            seconds: That the caller waits; None if it did not say.

        Raises:
            InvalidArgument: It is not a positive number.
        """
        if seconds is not None and not 0 < seconds < math.inf:
            raise InvalidArgument(f"timeout: {seconds:g} is not a positive number of seconds", field="timeout")
        return time.monotonic() + min(self._most_seconds, seconds or self._most_seconds)

    def identify(
        self, authorizations: Sequence[str], certificate: Certificate | None, behalf: Sequence[str] = ()
    ) -> Caller:
        """Who calls, or whom an administrator acts for.

        Args:
            authorizations: All headers of this name.
            certificate: Of the client.
            behalf: All headers that name a tenant.

        Raises:
            OuzelError: As `Access.identify` and `Access.behalf`; Unauthenticated or InvalidArgument where a header
                comes more than once.
        """
        with self.refusals():
            if len(authorizations) > 1:
                raise Unauthenticated("authorization: comes more than once")
            caller = self.access.identify(authorizations[0] if authorizations else None, certificate)
            if not behalf:
                return caller
            if len(behalf) > 1:
                raise InvalidArgument(f"{BEHALF}: comes more than once", field=BEHALF)
            return self.access.behalf(caller, behalf[0])

    @contextmanager
    def call(self, called: str | None = None) -> Iterator[None]:
        """Counts a call, so that stopping can wait for it.

        Args:
            called: What the task of the call calls: a path of gRPC, or "POST /path"; None has been said already.
        """
        if called is not None:
            _called.set(called)
        with self.under_way.call():
            yield

    @contextmanager
    def admit(self, caller: Caller, role: str, model: str | None = None) -> Iterator[None]:
        """The room for one request. Raises as `Access.admit`, and Unavailable once the gateway is stopping."""
        if self.under_way.draining:
            raise Unavailable("the gateway is stopping; another one, or the next one, will answer")
        with ExitStack() as held:
            with self.refusals():
                held.enter_context(self.access.admit(caller, role, model))
            yield

    async def aside(self, caller: Caller, deadline: float, function: Callable[..., T], *args: Any) -> T:
        """The result of some work that takes long, in a thread: of reading a request, or of writing an answer.

        Args:
            caller: Whose it is: tenants wait for themselves only.
            deadline: On the clock of `time.monotonic`.
            function: See `Reading.run`.
            args: Of the function.

        Raises:
            DeadlineExceeded: There was no time for it.
        """
        over = DeadlineExceeded("the time of the call was over before its request was read or its answer written")
        if (left := deadline - time.monotonic()) <= 0:
            raise over
        try:
            async with asyncio.timeout(left):
                return await self.reading.run(caller.tenant, function, *args)
        except TimeoutError as error:
            if isinstance(error, OuzelError):
                raise
            raise over from None

    async def describe(self, caller: Caller, model: str, version: str) -> Description:
        """What is known of a model. Raises what `Access.admit` raises, and NotFound."""
        with self.admit(caller, "explain", model):
            return await self.found(caller, model, version)

    async def found(self, caller: Caller, model: str, version: str) -> Description:
        """The same for a caller who was admitted: with the versions that exist for its tenant. Raises NotFound.

        A tuned model is there for the tenant that has tuned it, and for nobody else.
        """
        _check(model, version)
        return await owned.found(self.engine, caller.tenant, model, version)

    async def models(self, caller: Caller) -> list[Description]:
        """All models that exist for the caller."""
        with self.admit(caller, "explain"):
            return [each for each in await owned.models(self.engine, caller.tenant) if caller.may_see(each.name)]

    async def ready(self) -> bool:
        """Whether predictions are answered."""
        return not self.under_way.draining and await self.engine.ready()

    async def statistics(self, caller: Caller, model: str, version: str) -> list[tuple[Description, Counts]]:
        """What was answered to the caller's tenant. Raises as `describe`.

        Args:
            caller: Who asks.
            model: Its name; "" is all that exist for the caller.
            version: "" is all versions.
        """
        if not model:
            found = await self.models(caller)
        elif version:
            found = [await self.describe(caller, model, version)]
        else:
            versions = (await self.describe(caller, model, "")).versions
            found = [await self.engine.describe(model, each) for each in versions]
        return [(each, self._statistics.of(caller.tenant, each.name, each.version)) for each in found]

    async def predict(
        self, caller: Caller, model: str, version: str, rows: Sequence[Row], deadline: float
    ) -> list[pb.Explanation]:
        """The answers to rows of a caller who was admitted. They are counted.

        Args:
            caller: Who asks.
            model: Its name.
            version: "" is the default one.
            rows: One or more. Those without a limit of time of their own get what is left.
            deadline: On the clock of `time.monotonic`.

        Returns:
            One envelope per row, in order; each has a result or an error.

        Raises:
            OuzelError: As `Engine.predict`; ResourceExhausted also if the answer would come too late.
        """
        await self.found(caller, model, version)
        begun = time.monotonic()
        try:
            answers = await self._answers(model, version, rows, deadline)
        except NotFound:
            raise
        except OuzelError:
            seconds = time.monotonic() - begun
            with suppress(OuzelError):  # what is not served is not counted
                served = await self.engine.describe(model, version)
                self._statistics.failed(caller.tenant, served.name, served.version, seconds)
            raise
        self._statistics.answered(caller.tenant, model, version, answers, time.monotonic() - begun)
        return answers

    async def _answers(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        load = self._load(model, version)
        with ExitStack() as held:
            try:
                held.enter_context(load.room(len(rows), deadline))
            except OuzelError:
                self._metrics.shed()
                raise
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded("the time of the call is over")
            for row in rows:
                asked = row.options.timeout
                if math.isfinite(asked) and asked >= 0:  # else it is refused with that row
                    row.options.timeout = min(asked or left, left)
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(left):
                    answers = await self.engine.predict(model, version, rows, deadline)
                self._metrics.answered(model, len(rows))
                return answers
            except TimeoutError as error:
                if isinstance(error, OuzelError):
                    raise
                raise DeadlineExceeded("the time of the call was over before there was an answer") from None
            except NotFound:
                if not load.rows - len(rows):
                    self._loads.pop((model, version), None)  # names that callers invent take no room
                raise
            finally:
                self._metrics.asked(time.perf_counter() - begun)

    def _rows(self) -> int:
        """Is asked in another thread."""
        return sum(load.rows for load in list(self._loads.values()))

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Counts it if this refuses the call."""
        try:
            yield
        except OuzelError as error:
            self._denied(_called.get(), error.code)
            self._metrics.denied(error.code)
            raise

    def _load(self, model: str, version: str) -> Load:
        if len(self._loads) >= _MOST_LOADS and (model, version) not in self._loads:
            self._loads = {key: load for key, load in self._loads.items() if load.rows}
        stalled = partial(self.engine.stalled, model, version)
        return self._loads.setdefault((model, version), Load(self._most_rows, stalled=stalled))


def _check(model: str, version: str) -> None:
    """Names that cannot be a model's are not there, whatever is wrong with them."""
    try:
        check_name(model)
        if version:
            check_version(version)
    except InvalidArgument as error:
        raise NotFound(str(error).replace("name: ", "model: ", 1), field="model") from None
