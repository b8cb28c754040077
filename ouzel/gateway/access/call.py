"""The call that is being answered: who calls, and what is counted of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ouzel.errors import OuzelError
from ouzel.gateway.access.caller import Access, Caller

Denied = Callable[[str, str], None]  # hears of each refusal: the method, and the code of the error


@dataclass(frozen=True)
class Call:
    """A call whose caller is known.

    Attributes:
        caller: Who calls.
        method: "/package.Service/Method", or "POST /path".
        access: Decides what the caller may.
        denied: Hears of refusals.
    """

    caller: Caller
    method: str
    access: Access
    denied: Denied

    @contextmanager
    def admitted(self, role: str, model: str | None = None) -> Iterator[None]:
        """Counts the call from here to the end of the context; refusals too. See `Access.admit`."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self.access.admit(self.caller, role, model))
            except OuzelError as error:
                self.denied(self.method, error.code)
                raise
            yield


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """The call that is being answered here. Raises LookupError outside of one."""
    return _current.get()


def begin(call: Call) -> None:
    """Makes this the current call of the task."""
    _current.set(call)


def nobody(_method: str, _code: str) -> None:
    """Hears of refusals, and counts none."""
