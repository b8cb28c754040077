"""Names that people type: looked up, and the nearest ones where there is none. No torch: services use it too."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from ouzel.errors import InvalidArgument


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """ "; did you mean 'a', 'b'?", or "" if nothing is near."""
    folded = {name.casefold(): name for name in names}
    near = [folded[name] for name in difflib.get_close_matches(text.casefold()[:200], folded, n=3)]
    return f"; did you mean {', '.join(map(repr, near))}?" if near else ""


def label_index(labels: Sequence[str], text: str) -> int:
    """The index of the label `text`: as written, else without regard to case if only one label fits.

    Raises InvalidArgument for a label that several classes share (naming them) and for an unknown one (with near ones).
    """
    for fits in (
        [i for i, label in enumerate(labels) if label == text],
        [i for i, label in enumerate(labels) if label.casefold() == text.casefold()],
    ):
        if len(fits) == 1:
            return fits[0]
        if fits:
            raise InvalidArgument(
                f"label: {text!r} is the name of classes {', '.join(map(str, fits))}; give the index", field="label"
            )
    hint = did_you_mean(text, labels)
    raise InvalidArgument(f"label: the model has no class {text!r:.80}{hint}", field="label")
