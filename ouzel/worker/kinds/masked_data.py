"""The images and label maps that a segmentation learns from: an uploaded data set, or a folder that is named by URI."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound, OuzelError
from ouzel.worker.kinds import training_data
from ouzel_protos import manifest, mask_folders
from ouzel_protos.folders import BadFolder
from ouzel_protos.label_maps import BadMask
from ouzel_protos.manifest import BadEntry
from ouzel_protos.v1 import dataset_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Example
    from ouzel.worker.kinds.context import JobContext

_Read = Callable[[str], bytes]  # of a digest


def examples(dataset: str, context: JobContext) -> tuple[list[Example], tuple[str, ...]]:
    """The images that a job can use, near duplicates in groups, and the names of the classes.

    Args:
        dataset: Id of an upload, or a URI.
        context: Of the job; hears what was left out.

    Raises:
        OuzelError: The data set cannot be read or used.
    """
    from ouzel.finetune import Example

    if training_data.is_uri(dataset):
        entries, classes, read, left_out = _remote(dataset)
        for name, reason in left_out[: training_data.MOST_TOLD]:
            context.log(f"left out: {name!r:.200}: {reason}")
        report = training_data.looker(context, classes)(entries, read)
    else:
        uploads, owner = context.uploads, context.owner
        classes = tuple(uploads.get(owner, dataset).mask_classes)
        entries = uploads.entries(owner, dataset)
        report = uploads.report(owner, dataset, training_data.looker(context, classes))

        def read(sha256: str) -> bytes:
            return uploads.read(owner, sha256)

    if not report.usable:
        raise training_data.unusable(report)
    refused = {each.path for each in report.refused}
    groups = training_data.groups_of(report)
    for each in report.refused[: training_data.MOST_TOLD]:
        context.log(f"left out: {each.path!r:.200}: {each.reason}")
    for warning in report.warnings:
        context.log(warning)
    used = [entry for entry in entries if entry.path not in refused]
    context.log(f"{len(used)} images with label maps of {len(classes)} classes")
    return [
        Example(
            entry.path,
            "",
            hashlib.sha256(f"{entry.file.sha256} {entry.mask.sha256}".encode()).hexdigest(),
            partial(read, entry.file.sha256),
            entry.split,
            groups.get(entry.path, ""),
            read_label_map=partial(read, entry.mask.sha256),
        )
        for entry in used
    ], classes


def _remote(uri: str) -> tuple[list[pb.DatasetEntry], tuple[str, ...], _Read, Sequence[tuple[str, str]]]:
    """A folder elsewhere: each file is read once, for its digest, and again later."""
    import fsspec

    places: dict[str, Callable[[], bytes]] = {}
    entries = []

    def ref(read: Callable[[], bytes]) -> pb.FileRef:
        content = read()
        digest = hashlib.sha256(content).hexdigest()
        places[digest] = read
        return pb.FileRef(sha256=digest, size=len(content))

    try:
        system, root = fsspec.core.url_to_fs(uri)
        start = root.rstrip("/") + "/"
        names = {str(name).removeprefix(start): name for name in system.find(root)}
        found = mask_folders.collect({name: partial(_whole, system, place) for name, place in names.items()})
        for image in found.images:
            entry = pb.DatasetEntry(path=image.path, split=image.split)
            entry.file.CopyFrom(ref(image.read))
            try:
                entry.mask.CopyFrom(ref(image.read_label_map))
            except BadMask as error:
                raise InvalidArgument(f"dataset: {image.path!r:.200}: mask: {error}", field="dataset") from None
            entries.append(entry)
        manifest.check(entries, found.classes)
    except (BadEntry, BadFolder, BadMask) as error:
        raise InvalidArgument(f"dataset: {error}", field="dataset") from None
    except OuzelError:
        raise
    except Exception as error:  # its many file systems raise what they like; what they say may hold secrets
        raise NotFound(f"dataset: {uri!r:.200} cannot be read ({type(error).__name__})", field="dataset") from error

    def read(sha256: str) -> bytes:
        content = places[sha256]()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise FailedPrecondition(f"dataset: {uri!r:.200} has changed meanwhile", field="dataset")
        return content

    return sorted(entries, key=lambda entry: entry.path), found.classes, read, found.left_out


def _whole(system: Any, place: str) -> bytes:
    content: bytes = system.cat_file(place)
    return content
