"""The images that a fine-tuning learns from: an uploaded data set, or a folder that the operator lets callers name."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from google.protobuf.json_format import MessageToDict

from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, OuzelError
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds.context import JobInterrupted
from ouzel_protos import folders, manifest
from ouzel_protos.folders import BadFolder
from ouzel_protos.manifest import BadEntry
from ouzel_protos.recipes import DETECT, SEGMENT
from ouzel_protos.v1 import dataset_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Example
    from ouzel.worker.datasets.store import Look
    from ouzel.worker.kinds.context import JobContext

Kind = Literal["labels", "label maps", "boxes"]
_KINDS: Mapping[str, Kind] = {SEGMENT: "label maps", DETECT: "boxes"}
_URI = re.compile(r"([a-z][a-z0-9+.-]*)://.+")
_NAMED = 5  # problems in a message
MOST_TOLD = 1000  # refused images, and groups of duplicates, in an answer


def kind_of(recipe: str) -> Kind:
    """What the images must have that a recipe learns from."""
    return _KINDS.get(recipe, "labels")


def check(dataset: str, catalogue: Catalogue, *, kind: Kind = "labels") -> None:
    """Checks what can be said of a data set at once.

    Args:
        dataset: Id of an upload, or a URI.
        catalogue: With the data sets as the owner sees them.
        kind: What its images must have.

    Raises:
        InvalidArgument: The operator does not allow the URI's scheme, or the data set is of the other kind.
        NotFound: The owner has no such data set.
    """
    if (uri := _URI.fullmatch(dataset)) is not None:
        if uri[1] not in catalogue.schemes:
            allowed = ", ".join(sorted(catalogue.schemes)) or "none"
            raise InvalidArgument(
                f"dataset: URIs of scheme {uri[1]!r:.40} are not taken; the operator allows {allowed}", field="dataset"
            )
        return
    if catalogue.uploads is None or catalogue.owner is None:
        raise NotFound(f"dataset: no data set {dataset!r:.80}", field="dataset")
    stored = catalogue.uploads.get(catalogue.owner, dataset)
    own: Kind = "label maps" if stored.mask_classes else "boxes" if stored.box_classes else "labels"
    if own != kind:
        raise InvalidArgument(
            f"dataset: {dataset:.80} has {own}; {kind} are needed here (the recipe {SEGMENT} learns from label maps, "
            f"{DETECT} from boxes, all others from labels)",
            field="dataset",
        )


def report(dataset: str, catalogue: Catalogue, *, kind: Kind = "labels") -> Mapping[str, Any]:
    """What a look at every image of an uploaded data set finds.

    Args:
        dataset: Id of an upload.
        catalogue: With the data sets as the owner sees them.
        kind: As in `check`.

    Returns:
        A DatasetReport as values of JSON's types.

    Raises:
        FailedPrecondition: The data set is a URI.
        NotFound, InvalidArgument: As `check`.
    """
    check(dataset, catalogue, kind=kind)
    if catalogue.uploads is None or catalogue.owner is None or _URI.fullmatch(dataset):
        raise FailedPrecondition("dataset: only uploaded ones can be checked beforehand", field="dataset")
    return as_json(told(catalogue.uploads.report(catalogue.owner, dataset)))


def told(dataset_report: pb.DatasetReport) -> pb.DatasetReport:
    """Not more than fits into an answer."""
    short = pb.DatasetReport()
    short.CopyFrom(dataset_report)
    for name in ("refused", "duplicates"):
        items = getattr(short, name)
        if len(items) > MOST_TOLD:
            short.warnings.append(f"{name}: {len(items)}, of which the first {MOST_TOLD} are told")
            del items[MOST_TOLD:]
    return short


def as_json(dataset_report: pb.DatasetReport) -> dict[str, Any]:
    """A report as values of JSON's types."""
    return MessageToDict(dataset_report, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def examples(dataset: str, context: JobContext, *, training: bool = True) -> list[Example]:
    """The images that a job can use; without `training`, also those that it cannot.

    Args:
        dataset: Id of an upload, or a URI.
        context: Of the job; hears what was left out.
        training: Whether there must be enough of them to train on. If not, images that were refused are there, too:
            reading one raises the InvalidArgument that says why.

    Returns:
        One example per usable image, near duplicates in groups.

    Raises:
        OuzelError: The data set cannot be read or used.
    """
    from ouzel.finetune import Example

    look = looker(context)
    if is_uri(dataset):
        entries, read, left_out = _remote(dataset)
        for name, reason in left_out[:MOST_TOLD]:
            context.log(f"left out: {name!r:.200}: {reason}")
        dataset_report = look(entries, read)
    else:
        uploads, owner = context.uploads, context.owner
        entries = uploads.entries(owner, dataset)
        dataset_report = uploads.report(owner, dataset, look)

        def read(sha256: str) -> bytes:
            return uploads.read(owner, sha256)

    refused = {each.path: each.reason for each in dataset_report.refused}
    if (training and not dataset_report.usable) or len(refused) == len(entries):
        raise unusable(dataset_report)
    for warning in dataset_report.warnings:
        context.log(warning)
    context.log(_counted([entry for entry in entries if entry.path not in refused], training))
    groups = groups_of(dataset_report)

    def reader(file: pb.FileRef, path: str) -> Callable[[], bytes]:
        return lambda: _not_refused(read(file.sha256), refused.get(path))

    return [
        Example(
            entry.path,
            entry.label,
            entry.file.sha256,
            reader(entry.file, entry.path),
            entry.split,
            groups.get(entry.path, ""),
            reader(entry.mask, entry.path) if entry.HasField("mask") else None,
            tuple((box.left, box.top, box.right, box.bottom) for box in entry.boxes),
        )
        for entry in entries
        if not training or entry.path not in refused
    ]


def is_uri(dataset: str) -> bool:
    """Whether a data set is named by a URI, and not by the id of an upload."""
    return _URI.fullmatch(dataset) is not None


def looker(context: JobContext, mask_classes: Sequence[str] = (), box_classes: Sequence[str] = ()) -> Look:
    """Checks the images of a data set, tells how far it is, and raises JobInterrupted when the job is to stop."""

    def look(entries: Sequence[pb.DatasetEntry], read: Callable[[str], bytes]) -> pb.DatasetReport:
        from ouzel.worker.datasets.check import check

        def seen(count: int) -> None:
            context.progress(count, len(entries), "checking the images")
            if context.stop_wanted():
                raise JobInterrupted

        return check(entries, read, seen, mask_classes, box_classes)

    return look


def unusable(dataset_report: pb.DatasetReport) -> InvalidArgument:
    """Why a job cannot learn from a data set."""
    return InvalidArgument(f"dataset: {'; '.join(dataset_report.problems[:_NAMED])}", field="dataset")


def groups_of(dataset_report: pb.DatasetReport) -> dict[str, str]:
    """The group of each image that has duplicates, by its path."""
    return {path: f"group {n}" for n, each in enumerate(dataset_report.duplicates) for path in each.paths}


def _not_refused(content: bytes, reason: str | None) -> bytes:
    if reason is not None:
        raise InvalidArgument(reason)
    return content


def _counted(entries: Sequence[pb.DatasetEntry], training: bool) -> str:
    """How the folder was understood, in a line."""
    splits = Counter(entry.split for entry in entries)
    parts = [f"{count} {name}" for name, count in splits.items() if name] or ["the job splits them"]
    counted = f"{len(entries)} images of {len({entry.label for entry in entries})} classes"
    return f"{counted}: {', '.join(parts)}" if training else counted


def _remote(uri: str) -> tuple[list[pb.DatasetEntry], Callable[[str], bytes], Sequence[tuple[str, str]]]:
    """A folder elsewhere, and the files that are not used: each image is read once, for its digest, and again later."""
    import fsspec

    places: dict[str, str] = {}
    entries = []
    try:
        system, root = fsspec.core.url_to_fs(uri)
        names = {str(PurePosixPath(name).relative_to(root.rstrip("/"))): name for name in system.find(root)}
        arrangement = folders.arrange(names)
        for image in arrangement.images:
            content = system.cat_file(names[image.name])
            digest = hashlib.sha256(content).hexdigest()
            places[digest] = names[image.name]
            entry = pb.DatasetEntry(path=image.path, label=image.label, split=image.split)
            entry.file.CopyFrom(pb.FileRef(sha256=digest, size=len(content)))
            entries.append(entry)
        manifest.check(entries)
        manifest.check_classes(entries)
    except (BadEntry, BadFolder) as error:
        raise InvalidArgument(f"dataset: {error}", field="dataset") from None
    except OuzelError:
        raise
    except Exception as error:  # its many file systems raise what they like; what they say may hold secrets
        raise NotFound(f"dataset: {uri!r:.200} cannot be read ({type(error).__name__})", field="dataset") from error

    def read(sha256: str) -> bytes:
        content: bytes = system.cat_file(places[sha256])
        if hashlib.sha256(content).hexdigest() != sha256:
            raise FailedPrecondition(f"dataset: {uri!r:.200} has changed meanwhile", field="dataset")
        return content

    return sorted(entries, key=lambda entry: entry.path), read, arrangement.left_out
