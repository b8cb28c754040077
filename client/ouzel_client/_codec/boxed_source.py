"""Images with boxes of objects as callers have them: a folder, or a zip file of one."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from ouzel_client._codec import zips
from ouzel_client._codec.dataset_source import Files, Read, hashed
from ouzel_client.errors import InvalidArgument
from ouzel_protos import box_folders, folders, manifest, pictures
from ouzel_protos.folders import BadFolder
from ouzel_protos.manifest import BadEntry
from ouzel_protos.objects import BadBoxes
from ouzel_protos.v1 import dataset_pb2 as pb


def collect_boxed(source: str | os.PathLike[str], follow_links: bool = False) -> Files:
    """Read every file once, for its digest. Raises InvalidArgument that names the file and the line at fault.

    With Pillow, images are measured, and boxes that leave theirs are refused here; without it, the worker leaves out
    such images.
    """
    path = Path(source)
    left_out: list[tuple[str, str]] = []
    entries: list[pb.DatasetEntry] = []
    contents: dict[str, Read] = {}
    try:
        if path.is_dir():
            files, left_out = folders.walk(path, follow_links)
            reads: dict[str, Read] = {name: file.read_bytes for name, file in files.items()}
        elif path.is_file():
            reads = zips.members(path)
        else:
            raise InvalidArgument(f"source: {path} is neither a folder nor a zip file", field="source")
        found = box_folders.collect(reads, pictures.shown_size if find_spec("PIL") else None)
        for image in found.images:
            entry = pb.DatasetEntry(path=image.path, split=image.split)
            entry.file.CopyFrom(hashed(image.read, image.path, contents))
            manifest.add_boxes(entry, image.boxes, image.labels)
            entries.append(entry)
        manifest.check(entries, box_classes=found.classes)
    except BadEntry as error:
        raise InvalidArgument(str(error), field=error.field) from None
    except (BadFolder, BadBoxes) as error:
        raise InvalidArgument(f"source: {error}", field="source") from None
    except OSError as error:
        raise InvalidArgument(f"source: {error.filename or source}: {error.strerror}", field="source") from None
    return Files(entries, contents, (*found.left_out, *left_out), box_classes=found.classes)
