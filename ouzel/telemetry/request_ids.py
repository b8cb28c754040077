"""The id of a call: the caller's own if it is one, else a new one. It is answered, logged, and handed on."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar

HEADER = "x-request-id"
_CLEAN = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # nothing that could end a line or a header
_current: ContextVar[str] = ContextVar("request_id", default="")


def begin(given: str | bytes | None) -> str:
    """Makes an id that of the current task, and of what it starts.

    Args:
        given: What the caller sent. If it is missing, longer than 128 characters, or has other characters than
            letters, digits and `._:/+=@-`, a new one takes its place.

    Returns:
        The id.
    """
    text = given.decode("latin-1") if isinstance(given, bytes) else given or ""
    chosen = text if _CLEAN.fullmatch(text) else f"{random.getrandbits(128):032x}"  # it is no secret
    _current.set(chosen)
    return chosen


def current() -> str:
    """The id of the call that is being answered here; "" outside of one."""
    return _current.get()
