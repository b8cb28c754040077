"""Folders of images beside what is known of them: a folder images/, splits, annotations. For masks and for boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ouzel_protos import folders
from ouzel_protos.folders import BadFolder
from ouzel_protos.text import nfc

Read = Callable[[], bytes]
IMAGES = frozenset(("images", "image", "imgs", "img", "jpegimages"))
ANNOTATIONS = "annotations"
_NAMED = 3  # files in a message


def parts_of(names: Sequence[str], known: Iterable[str]) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """The parts of the path of each file without first folders that all share; and what is left out, with the reason.

    Args:
        names: Paths with "/" between their parts.
        known: Names of folders, in lower case, that are not left away.
    """
    parts = {name: nfc(name).split("/") for name in names if not folders.is_system(name)}
    kept = {*IMAGES, ANNOTATIONS, *known}
    while parts and len({each[0] for each in parts.values()}) == 1:
        first = next(iter(parts.values()))[0]
        if first.lower() in kept or folders.split_of(first) or any(len(each) < 2 for each in parts.values()):
            break
        parts = {name: each[1:] for name, each in parts.items()}
    return parts, [(name, "hidden, or of the operating system") for name in names if name not in parts]


def is_annotations(parts: Sequence[str]) -> bool:
    """Whether a file may hold COCO's annotations."""
    return parts[-1].lower().endswith(".json") and (len(parts) == 1 or parts[0].lower() == ANNOTATIONS)


def lies_in(parts: Sequence[str], words: frozenset[str]) -> bool:
    """Whether the first folder is one of the words, or the second one below a split."""
    above = [part.lower() for part in parts[: min(2, len(parts) - 1)]]
    if len(above) == 2 and not folders.split_of(above[0]):
        above = above[:1]
    return any(part in words for part in above)


def without(parts: Sequence[str], words: frozenset[str]) -> str:
    """The path without the first folder that is one of the words."""
    place = next(number for number, part in enumerate(parts) if part.lower() in words)
    return "/".join([*parts[:place], *parts[place + 1 :]])


def put(files: dict[str, str], path: str, name: str) -> str:
    """Adds a file by its path; why not, if there is one of this path."""
    if path in files:
        return f"the same path as {files[path]!r:.200}"
    files[path] = name
    return ""


def splits_of(images: Iterable[str]) -> Mapping[str, str]:
    """The split of each first folder; nothing if they are no splits. Raises BadFolder for images beside splits."""
    first = {path.split("/", maxsplit=1)[0] for path in images if "/" in path}
    known = {name: split for name in first if (split := folders.split_of(name))}
    if not known:
        return {}
    beside = sorted(path for path in images if path.split("/", maxsplit=1)[0] not in known)
    if beside:
        raise BadFolder(f"{beside[0]!r:.200} lies in none of the splits {', '.join(map(repr, sorted(known)))}")
    has_test = "test" in known.values()
    return {name: ("validation" if has_test else "test") if s == "eval" else s for name, s in known.items()}


def refuse_lonely(what: str, paths: Iterable[str]) -> None:
    """Raises BadFolder that names the first of the paths, if there are any."""
    lonely = sorted(paths)
    if lonely:
        named = ", ".join(repr(path)[:200] for path in lonely[:_NAMED])
        more = f" and {len(lonely) - _NAMED} more" if len(lonely) > _NAMED else ""
        raise BadFolder(f"{what}: {named}{more}")
