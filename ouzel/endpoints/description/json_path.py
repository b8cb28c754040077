"""Places in a JSON document: `predictions[0].scores`, or with other keys `['a.b'].c`."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any, Self

from ouzel.errors import InvalidArgument

_STEP = re.compile(r"\.?(?P<key>[^.\[\]'\"\s]+)|\[(?P<index>\d{1,6})\]|\['(?P<quoted>[^']*)'\]")
_MOST_STEPS = 32


@dataclass(frozen=True)
class JsonPath:
    """Keys and indices from the root of a document to a value; no steps are the whole document."""

    steps: tuple[str | int, ...] = ()

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Read a path.

        Args:
            text: As `predictions[0].scores`; empty or "$" is the whole document.
            where: The field that holds it, for the message.

        Raises:
            InvalidArgument: It is not such a path.
        """
        rest = text.removeprefix("$")
        steps: list[str | int] = []
        while rest:
            match = _STEP.match(rest)
            dotted = rest.startswith(".")
            if match is None or len(steps) == _MOST_STEPS or (match["key"] and bool(steps or text[0] == "$") != dotted):
                raise InvalidArgument(
                    f"{where}: {text!r:.80} is not a path of at most {_MOST_STEPS} steps such as predictions[0].scores",
                    field=where,
                )
            steps.append(int(match["index"]) if match["index"] else match["key"] or match["quoted"] or "")
            rest = rest[match.end() :]
        return cls(tuple(steps))

    def __str__(self) -> str:
        text = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" if _STEP.fullmatch(step) else f"[{step!r}]"
            for step in self.steps
        )
        return text.removeprefix(".") or "$"

    def get(self, document: Any) -> Any:
        """The value at this place. Raises LookupError if there is none."""
        step: Any
        for step in self.steps:
            if not isinstance(document, list if isinstance(step, int) else dict):
                raise LookupError(f"nothing at {self}")
            document = document[step]
        return document

    def put(self, document: dict[str, Any], value: object) -> dict[str, Any]:
        """A copy of a document with a value at this place; missing objects and lists on the way are made.

        Raises:
            InvalidArgument: What is on the way is neither, or a list is too short.
        """
        root = holder = copy.deepcopy(document)
        for number, step in enumerate(self.steps, 1):
            last = number == len(self.steps)
            missing = value if last else [] if isinstance(self.steps[number], int) else {}
            holder = self._entered(holder, step, missing, replace=last)
        return root

    def _entered(self, holder: Any, step: Any, missing: Any, *, replace: bool) -> Any:
        fits = isinstance(holder, list) and step <= len(holder) if isinstance(step, int) else isinstance(holder, dict)
        if not fits:
            raise InvalidArgument(f"input.path: {self} does not fit the fixed rest of the body", field="input.path")
        if isinstance(step, int) and step == len(holder):
            holder.append(missing)
        elif replace or (isinstance(step, str) and step not in holder):
            holder[step] = missing
        return holder[step]
