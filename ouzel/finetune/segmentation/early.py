"""Whether all layers got better than the decoder that learnt alone, on the same held-out images.

What counts as better: a higher mean IoU over all of them. The interval of the difference is told, and decides nothing.
"""

from __future__ import annotations

from ouzel.finetune.early import Improvement, unchanged
from ouzel.finetune.segmentation.metrics import bootstrap_difference
from ouzel.finetune.segmentation.segmented import Segmented


def improvement(first: Segmented, later: Segmented) -> Improvement:
    """Compare a training with its decoder alone.

    Args:
        first: What `early` of `segment` was given.
        later: What that call returned.
    """
    if later.chosen == first.chosen:
        return Improvement(False, True, unchanged(later.out_of_time))
    gain = later.test.miou - first.test.miou
    low, high = bootstrap_difference(later.counts, first.counts)
    better = gain > 0
    said = "better" if better else "not better"
    reason = (
        f"{said}: the mean IoU on {first.test.images} held-out images is {100 * later.test.miou:.1f} %, "
        f"and {100 * first.test.miou:.1f} % with the decoder alone (the difference is within {100 * low:.1f} to "
        f"{100 * high:.1f} points, 95 %)"
    )
    return Improvement(better, False, reason, {"gain": gain, "gain_low": low, "gain_high": high})
