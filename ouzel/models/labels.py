"""Names of the classes a network tells apart."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouzel.errors import InvalidArgument, NotFound
from ouzel_protos.text import LONGEST_LABEL, is_label, nfc, shown

logger = logging.getLogger(__name__)

_MOST_BYTES = 64 * 2**20


def read_labels(source: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Read the labels in the order of the network's outputs, in Unicode's composed form (NFC).

    A label may occur twice, as "crane" does in many a list of ImageNet's. Spaces around a line of a text file are taken
    off, around labels from elsewhere they stay; both is logged as a warning, and so are labels that differ in their
    Unicode form alone.

    Args:
        source: "imagenet" (the 1000 of ILSVRC-2012), "voc" (the 21 of Pascal VOC) or "coco" (the 91 of detectors), the
            latter two with the background first, which torchvision carries, a text file (UTF-8) with one label per
            line, a `.json` file, or a sequence. JSON is TorchServe's index_to_name.json, {"0": "tench", ...} or {"0":
            ["n01440764", "tench"], ...}, of which the last entry is the label, or a list of labels.

    Raises:
        InvalidArgument: The labels cannot be read, or a label cannot be shown in one line.
        NotFound: There is no such file.
    """
    if isinstance(source, str) and source == "imagenet":
        from torchvision.models import ResNet18_Weights

        return tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    if isinstance(source, str) and source == "voc":
        from torchvision.models.segmentation import FCN_ResNet50_Weights

        return tuple(FCN_ResNet50_Weights.DEFAULT.meta["categories"])
    if isinstance(source, str) and source == "coco":
        from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

        return tuple(RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"])
    if not isinstance(source, (str, Path)):
        return _told(_composed(source), "which is part of the label: whoever names the class must write it too")
    path = Path(source)
    text = _text(path)
    if path.suffix.lower() == ".json":
        return _told(_composed(_from_json(text, path)), "which is part of the label")
    lines = text.split("\n")  # not at what else splitlines() takes for an end: those are refused in a label
    while lines and not lines[-1].strip():
        lines.pop()
    check_labels(lines)
    return _composed([line.strip() for line in _told(lines, "which is taken off")])


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, composed (NFC), once each is seen to be one line that can be shown. Raises InvalidArgument."""
    if not labels:
        raise InvalidArgument("labels: there are none", field="labels")
    composed = [nfc(label) if isinstance(label, str) else label for label in labels]
    for index, label in enumerate(composed):
        if not is_label(label):
            told = shown(label, 80) if isinstance(label, str) else f"{label!r:.80}"
            raise InvalidArgument(
                f"labels[{index}]: {told} is not a line of 1 to {LONGEST_LABEL} characters", field="labels"
            )
    return tuple(composed)


def _composed(labels: Sequence[str]) -> tuple[str, ...]:
    """As `check_labels`; a warning if two that differ become one."""
    composed = check_labels(labels)
    first: dict[str, int] = {}
    for index, label in enumerate(composed):
        if labels[earlier := first.setdefault(label, index)] != labels[index]:
            logger.warning("labels[%d] and labels[%d] are %s in two forms of Unicode", earlier, index, shown(label, 80))
    return composed


def _told(labels: Sequence[str], what: str) -> tuple[str, ...]:
    """The labels as they are; a warning if some begin or end with a space."""
    spaced = [index for index, label in enumerate(labels) if label != label.strip()]
    if spaced:
        first, others = spaced[0], len(spaced) - 1
        more = f" (and {others} more)" if others else ""
        logger.warning("labels[%d]: %s begins or ends with a space%s, %s", first, shown(labels[first], 80), more, what)
    return tuple(labels)


def _text(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"labels: {path} is no file (nor is it the word imagenet, voc or coco)", field="labels")
    if path.stat().st_size > _MOST_BYTES:
        raise InvalidArgument(f"labels: {path} has more than {_MOST_BYTES} bytes", field="labels")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"labels: {path} is not UTF-8 text ({error})", field="labels") from error


def _from_json(text: str, path: Path) -> list[str]:
    try:
        content = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"labels: {path} is not JSON ({error})", field="labels") from error
    if isinstance(content, list):
        return content
    if not isinstance(content, Mapping):
        raise InvalidArgument(f"labels: {path} is neither a JSON object nor a list", field="labels")
    if set(content) == {"object_type_names"} and isinstance(content["object_type_names"], list):
        return list(content["object_type_names"])  # as TorchServe's older examples have it
    wanted = [str(index) for index in range(len(content))]
    if strange := content.keys() - set(wanted):
        missing = next(index for index in wanted if index not in content)
        raise InvalidArgument(
            f"labels: {path} has the key {shown(min(strange), 80)} and lacks {missing!r}; its keys must be the indices "
            f"of {len(content)} classes, '0' to '{len(content) - 1}'",
            field="labels",
        )
    return [_last(content[index]) for index in wanted]


def _last(entry: Any) -> Any:
    """The label of an entry: TorchServe shows "tench" of ["n01440764", "tench"]."""
    return entry[-1] if isinstance(entry, list) and entry else entry


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no key comes twice: of two classes one would be lost."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice, 80)} comes twice")
    return content
