"""The way in to predictions, the same for all protocols: admission, deadlines, shedding, and what is under way."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ouzel import errors
from ouzel.errors import DeadlineExceeded, InvalidArgument, NotFound, OuzelError, Unauthenticated, Unavailable
from ouzel.gateway.access.caller import Access, Caller
from ouzel.gateway.access.certificate import Certificate
from ouzel.gateway.engine import Description, Engine, Row
from ouzel.gateway.numbers import GatewayNumbers
from ouzel.gateway.observer import Observer
from ouzel.gateway.shedding import Load
from ouzel.model_names import check_name, check_version
from ouzel_protos.v1 import explain_pb2 as pb

_MOST_LOADS = 4096
_ERRORS: dict[str, type[OuzelError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidArgument,
        errors.DeadlineExceeded,
        errors.NotFound,
        errors.ResourceExhausted,
        errors.FailedPrecondition,
        errors.Unimplemented,
        errors.Unavailable,
    )
}


class Door:
    """Answers predictions of callers who are admitted.

    Args:
        engine: What answers.
        access: Who may.
        most_rows: Rows of one model that may be under way.
        most_seconds: That a call may take; callers who name no time get this one.
        numbers: That count what passes; None counts in a registry that nobody reads.
    """

    def __init__(
        self,
        engine: Engine,
        access: Access,
        *,
        most_rows: int = 512,
        most_seconds: float = 120.0,
        numbers: GatewayNumbers | None = None,
    ) -> None:
        self.engine, self.access = engine, access
        self._most_rows, self._most_seconds = most_rows, most_seconds
        self._numbers = numbers or GatewayNumbers()
        self.observer = Observer(self._numbers)
        self._loads: dict[tuple[str, str], Load] = {}
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        self._numbers.watch("calls_under_way", "Calls that are being answered.", lambda: self._under_way)
        self._numbers.watch("rows_under_way", "Rows that the engine has, or that wait for it.", self._rows)

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

    def identify(self, authorizations: Sequence[str], certificate: Certificate | None) -> Caller:
        """Who calls. Raises as `Access.identify`, and Unauthenticated where there is more than one authorization."""
        try:
            if len(authorizations) > 1:
                raise Unauthenticated("authorization: comes more than once")
            return self.access.identify(authorizations[0] if authorizations else None, certificate)
        except OuzelError as error:
            self._numbers.denied(error.code)
            raise

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts a call, so that stopping can wait for it."""
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    @contextmanager
    def admit(self, caller: Caller, role: str, model: str | None = None) -> Iterator[None]:
        """The room for one request. Raises as `Access.admit`, and Unavailable once the gateway is stopping."""
        if self.draining:
            raise Unavailable("the gateway is stopping; another one, or the next one, will answer")
        with ExitStack() as held:
            try:
                held.enter_context(self.access.admit(caller, role, model))
            except OuzelError as error:
                self._numbers.denied(error.code)
                raise
            yield

    async def drained(self) -> None:
        """Returns when no call is under way."""
        await self._idle.wait()

    async def describe(self, caller: Caller, model: str, version: str) -> Description:
        """What is known of a model. Raises what `Access.admit` raises, and NotFound."""
        _check(model, version)
        with self.admit(caller, "explain", model):
            return await self.engine.describe(model, version)

    async def models(self, caller: Caller) -> list[Description]:
        """All models that exist for the caller."""
        with self.admit(caller, "explain"):
            return [each for each in await self.engine.models() if caller.may_see(each.name)]

    async def ready(self) -> bool:
        """Whether predictions are answered."""
        return not self.draining and await self.engine.ready()

    async def predict(self, model: str, version: str, rows: Sequence[Row], deadline: float) -> list[pb.Explanation]:
        """The answers to rows of a caller who was admitted.

        Args:
            model: Its name.
            version: "" is the default one.
            rows: One or more. Those without a limit of time of their own get what is left.
            deadline: On the clock of `time.monotonic`.

        Returns:
            One envelope per row, in order; each has a result or an error.

        Raises:
            OuzelError: As `Engine.predict`; ResourceExhausted also if the answer would come too late.
        """
        _check(model, version)
        load = self._load(model, version)
        with ExitStack() as held:
            try:
                held.enter_context(load.room(len(rows), deadline))
            except OuzelError:
                self._numbers.shed()
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
                self._numbers.answered(model, len(rows))
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
                self._numbers.asked(time.perf_counter() - begun)

    def _rows(self) -> int:
        """Is asked in another thread."""
        return sum(load.rows for load in list(self._loads.values()))

    def _load(self, model: str, version: str) -> Load:
        if len(self._loads) >= _MOST_LOADS and (model, version) not in self._loads:
            self._loads = {key: load for key, load in self._loads.items() if load.rows}
        return self._loads.setdefault((model, version), Load(self._most_rows))


def check_answers(answers: Sequence[pb.Explanation]) -> None:
    """Raises the error of the first row that has one; of several rows, it says which."""
    for number, answer in enumerate(answers):
        if answer.HasField("error"):
            where = f"row {number}: " if len(answers) > 1 else ""
            raise error_of(answer.error, where)


def error_of(error: pb.Error, where: str = "") -> OuzelError:
    """The exception of an error that an envelope carries."""
    kind = _ERRORS.get(pb.Error.Code.Name(error.code), OuzelError)
    return kind(f"{where}{error.message}", field=error.field)


def _check(model: str, version: str) -> None:
    """Names that cannot be a model's are not there, whatever is wrong with them."""
    try:
        check_name(model)
        if version:
            check_version(version)
    except InvalidArgument as error:
        raise NotFound(str(error).replace("name: ", "model: ", 1), field="model") from None
