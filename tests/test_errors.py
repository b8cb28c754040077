"""Errors by their names on the wire."""

from __future__ import annotations

from collections.abc import Iterator

from ouzel import errors
from ouzel.errors import OuzelError, kind_of


def kinds(base: type[OuzelError]) -> Iterator[type[OuzelError]]:
    for each in base.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from kinds(each)


def test_each_kind_is_found_by_its_statuses_and_the_plain_one_by_its_code() -> None:
    found = list(kinds(OuzelError))
    assert len(found) == len({(kind.code, kind.http) for kind in found}) > 10
    for kind in found:
        assert kind_of(kind.code, kind.http) is kind
        plain = kind_of(kind.code)
        assert issubclass(kind, plain)
        assert plain.__bases__[0] is OuzelError


def test_what_is_not_known_is_our_fault() -> None:
    assert kind_of("INTERNAL") is kind_of("", 0) is kind_of("ABORTED", 409) is OuzelError
    assert kind_of("INVALID_ARGUMENT", 418) is errors.InvalidArgument
