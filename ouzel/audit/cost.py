"""How many pictures an audit shows to its source, which is said before it begins: somebody else may have to answer."""

from __future__ import annotations

from ouzel.audit.counterfactuals import REARRANGED
from ouzel.audit.fills import fills
from ouzel.audit.maps import OCCLUSIONS
from ouzel.audit.options import PredictionOptions

_PER_FILL = 3  # background, object, elsewhere
_ENDS = 3  # of all curves of deletion and insertion: the picture, its mean colour, the blurred picture
_SORTS = 4  # of other images: backgrounds and objects, of other classes and of the same


def changed_pictures(options: PredictionOptions, *, scenes: int = 0) -> int:
    """The most counterfactuals of an audit, all of which are in memory. Arguments as those of `most_pictures`."""
    return REARRANGED + _PER_FILL * len(fills(options.fills)) + _SORTS * min(options.scenes, scenes)


def most_pictures(options: PredictionOptions, *, scenes: int = 0, by_answers: bool = False) -> int:
    """The most pictures that `audit_prediction` shows to its predictor.

    Args:
        options: Of the audit.
        scenes: How many there are in the pool.
        by_answers: Whether the maps come from the answers of the source (`AnswerMaps`).
    """
    changed = changed_pictures(options, scenes=scenes)
    curves = _ENDS + 2 * (options.steps - 1) * (1 + options.random_orders) if options.steps else 0
    return 1 + (OCCLUSIONS if by_answers else 0) + changed + curves
