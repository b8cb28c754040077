"""The saliency map that an audited service sent along, compared with ours."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import stats

from ouzel.audit.evidence import ReportedMap
from ouzel.audit.view import View
from ouzel.errors import InvalidArgument

_TOP = 0.05  # share of the pixels that count as the top
_LARGEST = 4096  # pixels along an edge


def check(reported: np.ndarray, width: int, height: int) -> None:
    """Refuses what is not a map of an image.

    Args:
        reported: (h, w) of floats over the whole image, in the image's proportions.
        width: Of the image, in pixels.
        height: Of the image, in pixels.

    Raises:
        InvalidArgument: The map has another shape, is not finite, or is flat.
    """
    if reported.ndim != 2 or not 1 <= min(reported.shape) <= max(reported.shape) <= _LARGEST:
        raise InvalidArgument(
            f"reported_map: shape {reported.shape} is not (height, width), each from 1 to {_LARGEST}",
            field="reported_map",
        )
    if reported.dtype.kind != "f" or not np.isfinite(reported).all():
        raise InvalidArgument("reported_map: has values that are not finite floats", field="reported_map")
    rows, columns = reported.shape
    if abs(rows * width - columns * height) > max(width, height):  # a pixel of rounding along an edge
        raise InvalidArgument(
            f"reported_map: {rows} x {columns} is not in the proportions of the image, {height} x {width}",
            field="reported_map",
        )
    if np.ptp(np.abs(reported.astype(np.float64))) == 0:
        raise InvalidArgument("reported_map: all values are the same", field="reported_map")


def compare(reported: np.ndarray, values: np.ndarray, view: View, width: int, height: int) -> ReportedMap:
    """Compares two maps where the model looks.

    Args:
        reported: (h, w), a map that `check` allows.
        values: (H, W): our map of the claim.
        view: Of the audited model.
        width: Of the image, in pixels.
        height: Of the image, in pixels.
    """
    rows, columns = reported.shape
    theirs, ours = np.abs(reported.astype(np.float64)), np.abs(values.astype(np.float64))
    left, top, right, bottom = view.rectangle(width, height)
    box = (left * columns / width, top * rows / height, right * columns / width, bottom * rows / height)
    box = (box[0], box[1], min(box[2], columns), min(box[3], rows))
    scaled = Image.fromarray(theirs.astype(np.float32)).resize(values.shape[::-1], Image.Resampling.BILINEAR, box=box)
    seen = np.asarray(scaled, dtype=np.float64)
    count = max(1, round(_TOP * values.size))
    best = [set(np.argsort(-each, axis=None, kind="stable")[:count].tolist()) for each in (ours, seen)]
    flat = ours.min() == ours.max() or seen.min() == seen.max()
    correlation = 0.0 if flat else float(stats.spearmanr(ours, seen, axis=None).statistic)
    return ReportedMap(correlation, len(best[0] & best[1]) / count)
