"""Folders of labelled images: which files are images, which folders are classes and which are splits.

Client, worker and library read folders, zip files and listings of other file systems by these rules. Standard library
only. A file that is not used is always reported, with the reason; what looks like a split and is not one by the table
below is refused, because it would silently become a class.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ouzel_protos.text import nfc

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
FORMATS = "PNG, JPEG or WebP"
# Images that are not read here. A class that holds only such images is refused. Any other file without a suffix above
# is left out.
_OTHER_IMAGES = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".ppm", ".pgm", ".svg")
# What operating systems, network storage and archivers leave behind, in lower case.
_SYSTEM_FOLDERS = frozenset(
    (
        *("__macosx", "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler"),
        *("system volume information", "lost+found", "found.000", "__pycache__"),
    )
)
_SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "icon\uf00d"))
_STREAM = ":zone.identifier"  # Windows' mark of downloads, as copied by other systems

# Words that name a split, alone or with the fillers below: "Training", "test_set", "val-images".
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "eval",  # test, or validation where there is a test beside it
    "evaluation": "eval",
}
_FILLERS = frozenset(("set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder", "pictures"))


class BadFolder(ValueError):
    """Images in an order that does not tell their classes. The message names the folder or file."""


@dataclass(frozen=True)
class LabelledFile:
    """name: as the source has it. path: within the data set. split: "", "train", "validation" or "test"."""

    name: str
    path: str
    label: str
    split: str


@dataclass(frozen=True)
class Arrangement:
    """images: sorted by name. left_out: (name, reason) of every file that is not used."""

    images: tuple[LabelledFile, ...]
    left_out: tuple[tuple[str, str], ...]


def is_image(name: str) -> bool:
    """Whether a file is a PNG, JPEG or WebP by its suffix, and not what a system left beside one."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not is_system(name)


def is_system(name: str) -> bool:
    """Whether any part of the path is hidden, or was put there by an operating system or archiver."""
    *folders, last = name.split("/")
    return (
        any(part.startswith(".") for part in (*folders, last) if part not in (".", ".."))
        or any(part.lower() in _SYSTEM_FOLDERS for part in (*folders, last))
        or last.lower() in _SYSTEM_FILES
        or last.lower().endswith(_STREAM)
    )


def arrange(names: Iterable[str]) -> Arrangement:
    """Classes and splits of files: LABEL/.../FILE, or SPLIT/LABEL/.../FILE.

    A first folder that all share is not a label, and is left out of the path. Labels and paths are in NFC.

    Args:
        names: paths of files with "/" between their parts, relative to the folder.

    Raises:
        BadFolder: for images outside of the folder of a class, splits below or beside classes, splits of unknown name,
            and classes of images in formats that are not read.
    """
    used, left_out = _sieve(sorted(names))
    parts = _without_shared(used)
    for name, each in parts.items():
        if len(each) < 2:
            raise BadFolder(f"{name!r:.200} lies in no folder that names its class")
    splits = _splits({each[0]: len(each) > 2 for each in _deepest(parts.values())})
    images: dict[str, LabelledFile] = {}
    for name, each in parts.items():
        split = splits.get(each[0], "")
        inner = each[1:] if splits else each
        if len(inner) < 2 and split == "test":  # competitions ship them without labels
            left_out.append((name, "of the test images, but in no folder that names its class"))
            continue
        if len(inner) < 2:
            raise BadFolder(f"{name!r:.200} lies in no folder that names its class")
        path = "/".join(each)
        if path in images:
            left_out.append((name, f"the same path as {images[path].name!r:.200}, in another Unicode form"))
            continue
        images[path] = LabelledFile(name, path, inner[0], split)
    _refuse_splits_below(images.values(), bool(splits))
    _refuse_lost_classes(images.values(), left_out)
    return Arrangement(tuple(images.values()), tuple(sorted(left_out)))


def walk(folder: Path, follow_links: bool = False) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """The files below a folder by their relative names, and (name, reason) of what is left out.

    Links are followed where they stay in the folder, or everywhere with `follow_links`; each folder is read once.

    Raises:
        BadFolder: for links that lead out of the folder or nowhere, and names that are not Unicode text.
        OSError: for a folder that cannot be read.
    """
    files: dict[str, Path] = {}
    left_out: list[tuple[str, str]] = []
    root = folder.resolve()
    seen = {root}
    pending = [(folder, "")]
    while pending:
        here, prefix = pending.pop()
        entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        if not entries and prefix:
            left_out.append((prefix, "an empty folder"))
        for entry in entries:
            name, path = prefix + entry.name, Path(entry.path)
            if is_system(name):
                left_out.append((name + "/" * entry.is_dir(), "hidden, or of the operating system"))
                continue
            if any(0xD800 <= ord(character) <= 0xDFFF for character in entry.name):
                raise BadFolder(f"{name!r:.200} is not a file name in UTF-8; rename it")
            if entry.is_symlink() and not _check_link(path, root, follow_links):
                left_out.append((name, "a link to nothing"))
            elif entry.is_dir():
                target = path.resolve()
                if target in seen:
                    left_out.append((f"{name}/", "a link to a folder that is read already"))
                else:
                    seen.add(target)
                    pending.append((path, f"{name}/"))
            elif stat.S_ISREG(entry.stat().st_mode):
                files[name] = path
            else:
                left_out.append((name, "neither a file nor a folder"))
    return files, left_out


def read_folder(folder: Path, follow_links: bool = False) -> tuple[Arrangement, Mapping[str, Path]]:
    """`walk` and `arrange`: the images of a folder, and where each name lies. Raises BadFolder or OSError."""
    files, left_out = walk(folder, follow_links)
    arrangement = arrange(files)
    return Arrangement(arrangement.images, tuple(sorted([*arrangement.left_out, *left_out]))), files


def _check_link(path: Path, root: Path, follow_links: bool) -> bool:
    """Whether there is something behind a link. Raises BadFolder where it must not be left out or followed."""
    target = os.readlink(path)
    if not path.exists():
        if path.suffix.lower() not in SUFFIXES:
            raise BadFolder(f"{path} is a link to {target}, where nothing is; it may be a class")
        return False
    if not follow_links and not path.resolve().is_relative_to(root):
        raise BadFolder(f"{path} is a link that leads out of {root}, to {target}; links are followed on request only")
    return True


def _sieve(names: Iterable[str]) -> tuple[list[str], list[tuple[str, str]]]:
    used: list[str] = []
    left_out: list[tuple[str, str]] = []
    for name in names:
        if is_system(name):
            left_out.append((name, "hidden, or of the operating system"))
        elif not is_image(name):
            left_out.append((name, f"no {FORMATS} file by its suffix"))
        else:
            used.append(name)
    return used, left_out


def _without_shared(names: Iterable[str]) -> dict[str, list[str]]:
    """The parts of each path, in NFC, without the first folders that all share."""
    parts = {name: nfc(name).split("/") for name in names}
    while parts and all(len(each) > 2 for each in parts.values()) and len({each[0] for each in parts.values()}) == 1:
        if split_of(next(iter(parts.values()))[0]):
            break
        parts = {name: each[1:] for name, each in parts.items()}
    return parts


def _deepest(paths: Iterable[list[str]]) -> Iterable[list[str]]:
    """Of each first folder the path with the most parts."""
    deepest: dict[str, list[str]] = {}
    for each in paths:
        if len(each) > len(deepest.get(each[0], ())):
            deepest[each[0]] = each
    return deepest.values()


def split_of(folder: str) -> str:
    """The split that a folder's name stands for; "eval" where others decide; "" if it is no split's name."""
    words = [word for word in _words(folder) if word not in _FILLERS]
    if len(words) == 1:
        word = words[0]
        short = (word.removesuffix(filler) for filler in _FILLERS)  # "trainset"
        return next((_SPLITS[each] for each in (word, *short) if each in _SPLITS), "")
    return ""


def _looks_like_split(folder: str) -> bool:
    return any(word in _SPLITS for word in _words(folder)) or bool(re.match(r"hold.?out", folder.lower()))


def _words(folder: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", folder.lower()) if word]


def _splits(folders: Mapping[str, bool]) -> Mapping[str, str]:
    """The split of each first folder, or nothing if they are classes. folders: whether each has folders of its own.

    Raises BadFolder where it could be either.
    """
    known = {name: split for name in folders if (split := split_of(name))}
    nested = {name for name in folders if folders[name]}
    others = sorted(set(folders) - set(known))
    alike = [name for name in others if name in nested and _looks_like_split(name)]
    if not others and nested:
        flat = sorted(name for name in known if name not in nested and known[name] not in ("test", "eval"))
        if flat:
            raise BadFolder(f"{flat[0]!r:.80} is a split, but its images lie in no folder that names their class")
        has_test = "test" in known.values()
        return {name: ("validation" if has_test else "test") if s == "eval" else s for name, s in known.items()}
    if not others and len(known) > 1:
        raise BadFolder(f"{', '.join(map(repr, sorted(known)))} look like splits, but hold no folders of classes")
    strange = sorted(name for name in known if name in nested or name.lower() != "train")  # trains are a class, too
    if others and strange:
        raise BadFolder(
            f"{strange[0]!r:.80} looks like a split and {others[0]!r:.80} does not: give SPLIT/LABEL/FILE with splits "
            "named train, val and test, or LABEL/FILE; rename what is a class"
        )
    if alike and len(alike) == len(folders):
        raise BadFolder(f"{alike[0]!r:.80} looks like a split, but is not one of train, val and test; rename it")
    return {}


def _refuse_splits_below(images: Iterable[LabelledFile], has_splits: bool) -> None:
    """LABEL/SPLIT/FILE would lose the splits without a word."""
    if has_splits:
        return
    below: dict[str, set[str]] = defaultdict(set)
    for each in images:
        inner = each.path.split("/")
        if len(inner) > 2 and split_of(inner[1]):
            below[each.label].add(inner[1])
    for label, names in below.items():
        if len({split_of(name) for name in names}) > 1:
            raise BadFolder(
                f"the class {label!r:.80} holds {', '.join(map(repr, sorted(names)))}: splits lie above classes, as in "
                "train/LABEL/FILE"
            )


def _refuse_lost_classes(images: Iterable[LabelledFile], left_out: Iterable[tuple[str, str]]) -> None:
    """A folder whose images are all of formats that are not read would be a class that vanishes."""
    kept = {str(PurePosixPath(each.name).parent) for each in images}
    lost = Counter(
        str(PurePosixPath(name).parent)
        for name, _ in left_out
        if "/" in name and PurePosixPath(name).suffix.lower() in _OTHER_IMAGES and not is_system(name)
    )
    for folder, count in sorted(lost.items()):
        if not any(place == folder or place.startswith(f"{folder}/") for place in kept):
            raise BadFolder(f"{folder!r:.200} holds {count} images, but no {FORMATS} file")
