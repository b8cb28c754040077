"""Whether all layers got better than the new layers that learnt alone, on the same held-out images.

What counts as better: a higher mAP over all of them. The interval of the difference is told, and decides nothing.
"""

from __future__ import annotations

from ouzel.finetune.detection.average_precision import matches
from ouzel.finetune.detection.detected import Detected
from ouzel.finetune.detection.score import bootstrap_difference
from ouzel.finetune.early import Improvement, unchanged


def improvement(first: Detected, later: Detected) -> Improvement:
    """Compare a training with its new layers alone.

    Args:
        first: What `early` of `detect` was given.
        later: What that call returned.
    """
    if later.chosen == first.chosen:
        return Improvement(False, True, unchanged(later.out_of_time))
    gain = later.test.map - first.test.map
    after, before = (matches(made.there, made.found) for made in (later, first))
    low, high = bootstrap_difference(after, before, later.test.images)
    better = gain > 0
    said = "better" if better else "not better"
    reason = (
        f"{said}: the mAP on {first.test.images} held-out images is {100 * later.test.map:.1f} %, and "
        f"{100 * first.test.map:.1f} % with the new layers alone (the difference is within {100 * low:.1f} to "
        f"{100 * high:.1f} points, 95 %)"
    )
    return Improvement(better, False, reason, {"gain": gain, "gain_low": low, "gain_high": high})
