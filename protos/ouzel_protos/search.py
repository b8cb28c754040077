"""The search for hyper-parameters: what may be searched, and how the command line writes it. No torch.

The library, the worker, the client and the command line read it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from ouzel_protos.recipes import FINETUNE, FINETUNE_DEFAULT, Range

RECIPES = ("fine_tune", FINETUNE_DEFAULT, "scratch")
FIXED = ("held_out", "validation")  # they decide which images the trials are compared on
TRIALS = Range(int, 1, 256)
TRIALS_DEFAULT = 16
MOST_VALUES = 64  # of one list


@dataclass(frozen=True)
class Interval:
    """Values between two, both included.

    Attributes:
        low: The least.
        high: The largest.
        log: Whether orders of magnitude are equally likely, rather than values.
    """

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", log" if self.log else "")


@dataclass(frozen=True)
class Choices:
    """Some values.

    Attributes:
        values: Of them, none twice.
    """

    values: tuple[float | bool, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.values))


Searched: TypeAlias = Interval | Choices
Space: TypeAlias = Mapping[str, Searched]


class BadSearch(ValueError):
    """A search that cannot be.

    Attributes:
        field: At fault.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


def space_of(given: Mapping[str, Any]) -> Space:
    """A space as Python writes it.

    Args:
        given: By parameter, (low, high), (low, high, "log"), a list of values, or an Interval or Choices.

    Raises:
        BadSearch: A value is none of these.
    """
    if not isinstance(given, Mapping):
        raise BadSearch("search", f"{given!r:.80} is not a mapping of parameters to ranges")
    return {name: _searched(name, each) for name, each in given.items()}


def read(text: str) -> tuple[str, Searched]:
    """A parameter of a command line: "NAME=LOW:HIGH", "NAME=LOW:HIGH:log" or "NAME=VALUE,VALUE,...".

    Raises:
        BadSearch: The text is none of these.
    """
    name, sign, rest = text.partition("=")
    if not sign or not name or not rest:
        raise BadSearch("search", f"{text!r:.80} is not NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE")
    if ":" not in rest:
        return name, Choices(tuple(_value(name, each.strip()) for each in rest.split(",")))
    low, high, *more = rest.split(":")
    if more not in ([], ["log"]):
        raise BadSearch(f"search.{name:.80}", f"{rest!r:.80} is not LOW:HIGH or LOW:HIGH:log")
    return name, Interval(_number(name, low), _number(name, high), bool(more))


def check(recipe: str, space: Space, trials: int, parameters: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Refuses a search that cannot be.

    Args:
        recipe: By which each trial learns.
        space: What is searched.
        trials: How many.
        parameters: That are given besides.

    Raises:
        BadSearch: It names the field, the value and what is allowed.
    """
    if recipe not in RECIPES:
        raise BadSearch("search", f"{recipe} is not searched; {', '.join(RECIPES)} are")
    if not space:
        raise BadSearch("search", "names no parameter")
    if problem := TRIALS.problem(trials):
        raise BadSearch("trials", problem)
    limits = {name: limit for name, limit in FINETUNE[recipe].items() if name not in FIXED}
    for name, each in space.items():
        field = f"search.{name!s:.80}"
        if name in FIXED:
            raise BadSearch(field, "decides which images trials are compared on, and cannot be searched")
        if name not in limits:
            raise BadSearch(field, f"{recipe} knows only {', '.join(limits)}")
        if name in parameters:
            raise BadSearch(field, "is given in parameters, too; either it is searched, or it is given")
        problem = _problem(each, limits[name])
        if problem:
            raise BadSearch(field, problem)


def _problem(given: Searched, limit: Range) -> str:
    """What is wrong; "" if nothing is."""
    if isinstance(given, Interval):
        return _problem_of_interval(given, limit)
    if not isinstance(given.values, (tuple, list)) or not 2 <= len(given.values) <= MOST_VALUES:
        found = f"{len(given.values)} values" if isinstance(given.values, (tuple, list)) else f"{given.values!r:.80}"
        return f"{found} are not within 2..{MOST_VALUES}"
    if problem := next((problem for each in given.values if (problem := limit.problem(each))), ""):
        return problem
    return f"{given} has a value twice" if len(set(given.values)) < len(given.values) else ""


def _problem_of_interval(given: Interval, limit: Range) -> str:
    if limit.kind is bool:
        return "is true or false; give a list of both"
    if problem := limit.problem(given.low) or limit.problem(given.high):  # NaN and infinity are within no limits
        return problem
    if given.low >= given.high:
        return f"the range {given.low:g} to {given.high:g} is empty; the lower end comes first"
    if given.log and given.low <= 0:
        return f"a range by orders of magnitude (log) begins above 0, and this one at {given.low:g}"
    return ""


def _searched(name: str, given: Any) -> Searched:
    if isinstance(given, (Interval, Choices)):
        return given
    field = f"search.{name!s:.80}"
    if isinstance(given, list):
        return Choices(tuple(given))
    if isinstance(given, tuple) and len(given) in (2, 3):
        low, high, *more = given
        if more not in ([], ["log"], ["linear"]):
            raise BadSearch(field, f"{more[0]!r:.40} is neither 'log' nor 'linear'")
        for each in (low, high):
            if isinstance(each, bool) or not isinstance(each, (int, float)):
                raise BadSearch(field, f"{each!r:.40} is not a number; values to choose from come in a list")
        return Interval(low, high, more == ["log"])
    raise BadSearch(field, f"{given!r:.80} is neither (low, high), (low, high, 'log') nor a list of values")


def _value(name: str, text: str) -> float | bool:
    return text == "true" if text in ("true", "false") else _number(name, text)


def _number(name: str, text: str) -> float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise BadSearch(f"search.{name:.80}", f"{text!r:.40} is not a number")
