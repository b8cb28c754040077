"""Names that people type: looked up, and the nearest ones where there is none. No torch: services use it too."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ouzel.checks import did_you_mean
from ouzel.errors import InvalidArgument, NotFound
from ouzel_protos import classes as rule
from ouzel_protos.text import nfc, shown

_SHOWN = 80  # characters of what was typed
_FEW = 5  # layers that a message lists


def unknown_layer(layer: str, layers: Collection[str], *, where: str = "layer", model: str = "the model") -> NotFound:
    """The error for a layer that is not there; it names near layers, or else some of those that are there.

    Args:
        layer: What was asked for.
        layers: Names of the layers that may be asked for.
        where: The field that holds it, as the caller knows it.
        model: Who has no such layer.
    """
    names = [name for name in layers if name]
    few = ", ".join(names[:_FEW]) + (f", ... ({len(names)} in all)" if len(names) > _FEW else "")
    hint = did_you_mean(layer, names) or (f"; it has {few}" if names else "")
    return NotFound(f"{where}: {model} has no layer {shown(layer, _SHOWN)}{hint}", field=where)


def label_index(labels: Sequence[str], text: str, classes: int | None = None) -> int:
    """The index of the class that `text` names, by the rule of `ouzel_protos.classes`: a label, else an index.

    `index:N` and `label:TEXT` spell out which is meant. classes: how many there are, where that is not the number of
    labels. Raises InvalidArgument for a text that fits several classes (naming all readings) and for one that fits
    none (with near labels).
    """
    matches = label_indices(labels, text, classes)
    if len(matches) > 1:
        _refuse_shared(text, matches)
    return matches[0]


def label_indices(labels: Sequence[str], text: str, classes: int | None = None) -> tuple[int, ...]:
    """As `label_index`, but all classes of a label that several share."""
    count = len(labels) if classes is None else classes
    readings = rule.readings(labels, text, count)
    if len(readings) == 1:
        return next(iter(readings.values()))
    if readings:
        told = " or ".join(_told(way, meant, labels, count) for way, meant in readings.items())
        raise InvalidArgument(f"label: {shown(text, _SHOWN)} can be read as {told}; write one of these", field="label")
    if len(alike := rule.alike(labels, text)) > 1:
        _refuse_shared(text, alike)
    if text.startswith(rule.INDEX) or (text.isascii() and text.isdecimal()):
        hint = f", nor is it an index in 0..{count - 1}"
    else:
        hint = did_you_mean(nfc(text).removeprefix(rule.LABEL), labels)
    raise InvalidArgument(f"label: the model has no class {shown(text, _SHOWN)}{hint}", field="label")


def _refuse_shared(text: str, classes: Sequence[int]) -> None:
    some = ", ".join(map(str, classes[:8])) + (", ..." if len(classes) > 8 else "")
    raise InvalidArgument(
        f"label: {shown(text, _SHOWN)} is the name of classes {some}; give the index, as in '{rule.INDEX}{classes[0]}'",
        field="label",
    )


def _told(way: str, meant: Sequence[int], labels: Sequence[str], classes: int) -> str:
    """A reading, and how to write it so that it is the only one: "'index:1' (class 1, '10')"."""
    index = meant[0]
    label = labels[index] if index < len(labels) else ""
    ways = (way, f"{rule.LABEL}{label}", f"{rule.INDEX}{index}", label)
    clear = next((each for each in ways if len(rule.readings(labels, each, classes)) == 1), way)
    return f"{shown(clear, _SHOWN)} (class {index}{f', {shown(label, _SHOWN)}' if label else ''})"
