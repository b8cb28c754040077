"""Names of the classes a network tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ouzel.errors import InvalidArgument, NotFound

_LONGEST = 200  # characters
_MOST_BYTES = 64 * 2**20


def read_labels(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Labels in the order of the network's outputs.

    `source` is "imagenet" (the 1000 of ILSVRC-2012, which torchvision carries), a text file (UTF-8) with one label per
    line, or a sequence. A label may occur twice, as "crane" does in many a list of ImageNet's.
    Raises InvalidArgument or NotFound.
    """
    if isinstance(source, str) and source == "imagenet":
        from torchvision.models import ResNet18_Weights

        return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    return check_labels(_lines(Path(source)) if isinstance(source, (str, Path)) else source)


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels as a tuple, once each is seen to be a text that can be shown in one line. Raises InvalidArgument."""
    if not labels:
        raise InvalidArgument("labels: there are none", field="labels")
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip() or len(label) > _LONGEST or not label.isprintable():
            raise InvalidArgument(
                f"labels[{index}]: {label!r:.80} is not a line of 1 to {_LONGEST} characters", field="labels"
            )
    return tuple(labels)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise NotFound(f"labels: {path} is no file (nor is it the word imagenet)", field="labels")
    if path.stat().st_size > _MOST_BYTES:
        raise InvalidArgument(f"labels: {path} has more than {_MOST_BYTES} bytes", field="labels")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"labels: {path} is not UTF-8 text ({error})", field="labels") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() for line in lines]
