"""Whether a job can learn from a data set, and what a person should know before: from what was seen of its images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ouzel_protos.v1 import dataset_pb2 as pb

_THREE = 3  # images of some class, unless they are split already
_TINY, _NEEDED = 5, 2  # images of a class: below, a warning; below, a problem
_IMBALANCE = 10
_NAMED = 20  # in a warning


def judge_labels(report: pb.DatasetReport, entries: Sequence[pb.DatasetEntry]) -> None:
    """Adds problems and warnings of images with labels. entries: all of them, those included that were refused."""
    report.problems.extend(_problems(report, {entry.label for entry in entries}))
    if not any(entry.split for entry in entries) and max(report.classes.values(), default=_THREE) < _THREE:
        report.problems.append("no class has three images: to train on, to choose by, and for the figures")
    report.warnings.extend(_warnings(report))


def judge_label_maps(report: pb.DatasetReport, entries: Sequence[pb.DatasetEntry], mask_classes: Sequence[str]) -> None:
    """The same of images with label maps. entries: those that can be used."""
    _need_three(report, entries)
    if len(report.classes) < 2:
        report.problems.append(f"{len(report.classes)} class(es) have pixels; two are needed at least")
    report.warnings.extend(_left_out(report))
    _name_rare(report, mask_classes, "pixel")
    report.warnings.extend(_leaks(report))


def judge_boxes(report: pb.DatasetReport, entries: Sequence[pb.DatasetEntry], box_classes: Sequence[str]) -> None:
    """The same of images with boxes."""
    _need_three(report, entries)
    for name in ("train", "test"):
        part = [entry for entry in entries if entry.split == name]
        if part and not any(entry.boxes for entry in part):
            report.problems.append(f"no {name} image has an object")
    with_objects = sum(bool(entry.boxes) for entry in entries)
    if with_objects < _THREE and not any(entry.split for entry in entries):
        report.problems.append(
            f"{with_objects} image(s) that can be used have an object; {_THREE} are needed: to train on, to choose by, "
            "and for the figures"
        )
    report.warnings.extend(_left_out(report))
    _name_rare(report, box_classes, "box")
    report.warnings.extend(_leaks(report))


def _need_three(report: pb.DatasetReport, entries: Sequence[pb.DatasetEntry]) -> None:
    if len(entries) < _THREE and not {"train", "test"} <= {entry.split for entry in entries}:
        report.problems.append(f"{len(entries)} image(s) can be used; {_THREE} are needed at least")


def _name_rare(report: pb.DatasetReport, classes: Sequence[str], what: str) -> None:
    missing = [label for label in classes if label not in report.classes]
    if missing:
        report.warnings.append(f"no {what} in any image: {', '.join(missing[:_NAMED])}; nothing of them is learnt")
    tiny = sorted(label for label, count in report.classes.items() if count < _TINY)
    if tiny:
        report.warnings.append(f"in fewer than {_TINY} images: {', '.join(tiny[:_NAMED])}")


def _problems(report: pb.DatasetReport, labels: set[str]) -> Iterator[str]:
    usable = {label for label, count in report.classes.items() if count >= _NEEDED}
    for label in sorted(labels - usable):
        count = report.classes.get(label, 0)
        yield f"class {label!r:.80} has {count} image(s) that can be used; {_NEEDED} are needed at least"
    if len(usable) < 2:
        yield f"{len(usable)} class(es) can be used; two are needed at least"


def _left_out(report: pb.DatasetReport) -> Iterator[str]:
    if report.refused:
        yield f"{len(report.refused)} of {report.images} images are left out; `refused` says why"


def _warnings(report: pb.DatasetReport) -> Iterator[str]:
    yield from _left_out(report)
    tiny = sorted(label for label, count in report.classes.items() if _NEEDED <= count < _TINY)
    if tiny:
        yield f"fewer than {_TINY} images: {', '.join(tiny[:_NAMED])}"
    if report.classes and max(report.classes.values()) > _IMBALANCE * min(report.classes.values()):
        most = max(report.classes, key=lambda label: report.classes[label])
        least = min(report.classes, key=lambda label: report.classes[label])
        yield (
            f"imbalance: {report.classes[most]} images of {most!r:.80}, {report.classes[least]} of {least!r:.80}; "
            "accuracy alone will flatter"
        )
    yield from _odd_labels(sorted(report.classes))
    yield from _leaks(report)


def _leaks(report: pb.DatasetReport) -> Iterator[str]:
    if report.duplicates:
        extra = sum(len(group.paths) - 1 for group in report.duplicates)
        yield f"{extra} images are the same as others, or nearly so; they stay on one side of the split"
    if any(group.labels_differ for group in report.duplicates):
        yield "some images go by different labels"
    if any(group.across_splits for group in report.duplicates):
        yield "leakage: images for training are for validation or test as well, whose figures will flatter"


def _odd_labels(labels: Sequence[str]) -> Iterator[str]:
    spaced = [label for label in labels if label != label.strip()]
    if spaced:
        yield f"spaces at the beginning or end: {', '.join(map(repr, spaced[:_NAMED]))}"
    by_fold = defaultdict(list)
    for label in labels:
        by_fold[label.strip().casefold()].append(label)
    alike = [", ".join(map(repr, group)) for group in by_fold.values() if len(group) > 1]
    if alike:
        yield f"classes that differ in case or spaces alone: {'; '.join(alike[:_NAMED])}"
