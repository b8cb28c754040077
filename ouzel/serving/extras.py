"""Which extras of this distribution are installed, by what its own metadata says of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

_OURS = "ouzel"


def missing(extra: str) -> tuple[str, ...]:
    """The distributions that an extra needs and that are not there, by name.

    Versions are not looked at: pip has. Where this is not installed as a distribution, nothing is known to be missing.

    Args:
        extra: As pyproject.toml names it.
    """
    return tuple(sorted({each for each in _needed(extra) if not _there(each)}))


def _needed(extra: str) -> Iterator[str]:
    try:
        requirements = map(Requirement, metadata.requires(_OURS) or ())
    except metadata.PackageNotFoundError:
        return
    for each in requirements:
        if each.marker is None or not each.marker.evaluate({"extra": extra}) or each.marker.evaluate({"extra": ""}):
            continue  # it is of all, or of another extra, or of another system
        if each.name == _OURS:
            for inner in each.extras:
                yield from _needed(inner)
        else:
            yield each.name


def _there(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
