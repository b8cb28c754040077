"""Label maps: the class of each pixel of an image, in a PNG file. The rules that client, worker and library share.

    grey of 1, 2, 4 or 8 bits     the value is the number of the class
    palette of 1 to 8 bits        the index is the number of the class, as in Pascal VOC; colours do not matter
    255                           the pixel does not count, in training and in figures

Anything else is refused: colours, transparency beside grey, 16 bits, a size that is not the image's, a class that there
is not, and a file in which no pixel counts. Pillow and numpy are imported when a file is read, and not earlier.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ouzel_protos.text import LONGEST_LABEL, is_label, nfc

if TYPE_CHECKING:
    import numpy as np
    from PIL.PngImagePlugin import PngImageFile

IGNORED = 255
MOST_CLASSES = 255  # 0 to 254
MOST_PIXELS = 4096 * 4096  # of a mask whose image is not known
BACKGROUND = "background"
_BITS = "a label map has 8 bits or fewer: grey, or a palette"
_SIXTEEN = ("I;16", "I;16B", "I;16L", "I")
# Pillow widens grey of 2 and 4 bits to 8; these factors undo it.
_WIDENED = {"L;2": 85, "L;4": 17}
_ORIENTATION = 0x0112  # the EXIF tag
_PNG = b"\x89PNG\r\n\x1a\n"


class BadMask(ValueError):
    """A mask that cannot be read by the rules. The message says why, in one line, and does not name the file."""


def read(content: bytes, size: tuple[int, int], classes: int) -> np.ndarray[Any, Any]:
    """Reads a label map.

    Args:
        content: The PNG file.
        size: (width, height) of the image, upright.
        classes: How many there are.

    Returns:
        (height, width) uint8, each below `classes` or 255.

    Raises:
        BadMask: Says which rule is broken, with value and limit.
    """
    import numpy as np

    labels = np.asarray(values(content, size))
    wrong = (labels >= classes) & (labels != IGNORED)
    if wrong.any():
        y, x = (int(each) for each in np.argwhere(wrong)[0])
        raise BadMask(
            f"has the class {labels[y, x]} at x = {x}, y = {y} ({int(wrong.sum())} such pixels); there are {classes} "
            f"classes, 0 to {classes - 1}, and {IGNORED} for pixels that do not count"
        )
    if (labels == IGNORED).all():
        raise BadMask(f"is {IGNORED} all over: no pixel counts")
    return labels


def values(content: bytes, size: tuple[int, int] | None) -> np.ndarray[Any, Any]:
    """The same, of any values: (height, width) uint8. size: None for any. Raises BadMask."""
    if not content:
        raise BadMask("is empty: 0 bytes")
    if not content.startswith(_PNG):
        raise BadMask("is not a PNG file; other formats change or mix classes")
    try:
        return _values(content, size)
    except BadMask:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every kind on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadMask(f"is broken ({reason:.200})") from error


def write(labels: np.ndarray[Any, Any]) -> bytes:
    """A PNG file of classes (height, width) uint8."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(labels).save(out, "PNG", compress_level=4)
    return out.getvalue()


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes in the order of their numbers.

    Raises:
        BadMask: There are too few or too many, or one is no label or there twice.
    """
    names = tuple(nfc(name) for name in classes)
    if not 2 <= len(names) <= MOST_CLASSES:
        raise BadMask(f"{len(names)} classes; 2 to {MOST_CLASSES} are allowed, the background among them")
    for name in names:
        if not is_label(name):
            raise BadMask(f"the class {name!r:.80} is not a line of 1 to {LONGEST_LABEL} characters")
        if names.count(name) > 1:
            raise BadMask(f"the class {name!r:.80} is there twice")
    return names


def colours(count: int) -> np.ndarray[Any, Any]:
    """(count, 3) uint8: a colour for each class, black for the first, as Pascal VOC has them."""
    import numpy as np

    numbers = np.arange(count)
    made = np.zeros((count, 3), np.uint8)
    for place in range(8):  # the bits of the number, three at a time, become the upper bits of the colours
        for channel in range(3):
            made[:, channel] |= (((numbers >> (3 * place + channel)) & 1) << (7 - place)).astype(np.uint8)
    return made


def _values(content: bytes, size: tuple[int, int] | None) -> np.ndarray[Any, Any]:
    import numpy as np
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(io.BytesIO(content)) as file:
        if size is not None and file.size != size:
            raise BadMask(
                f"has {file.size[0]} x {file.size[1]} pixels; its image has {size[0]} x {size[1]} (as it is shown, by "
                "its EXIF orientation)"
            )
        if file.width * file.height > MOST_PIXELS:
            raise BadMask(f"has {file.width} x {file.height} pixels; {MOST_PIXELS} in all are the limit")
        raw = _check_mode(file)
        file.load()
        if file.getexif().get(_ORIENTATION, 1) != 1:
            raise BadMask("has an EXIF orientation; turn the pixels instead")
        labels = np.array(file, dtype=np.uint8)
    return labels // _WIDENED.get(raw, 1)


def _check_mode(file: PngImageFile) -> str:
    """How the pixels are packed. Raises BadMask unless they are numbers of classes."""
    raw = str(file.tile[0].args) if file.tile and isinstance(file.tile[0].args, str) else ""
    if file.mode in _SIXTEEN or ";16" in raw:
        raise BadMask(f"has 16 bits in a channel; {_BITS}")
    if file.mode not in ("1", "L", "P"):
        raise BadMask(f"has the mode {file.mode}: colours or transparency, which are no numbers of classes; {_BITS}")
    if getattr(file, "n_frames", 1) > 1:
        raise BadMask(f"is an animation of {file.n_frames} pictures")
    return raw
