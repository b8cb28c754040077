"""Why a classifier answered as it did: saliency methods over one shared forward pass.

    from ouzel.saliency import Contrast, Explainer, Saliency

    explainer = Explainer(model)
    e = explainer(x, [Saliency("gradient"), Saliency("guided", target=281), Saliency("grad_cam", layer="layer3")])
    e.logits            # (B, K)
    e.maps[1].values    # (B, H, W)

Of a network that answers each pixel, a segmentation network, targets are classes over regions of the image:

    e = explainer(x, [Saliency("gradient", 8), Saliency("grad_cam", Within(8, Box(10, 20, 90, 60)))])
    e.logits            # (B, K, H, W)

Known traits of the true gradient, which the maps share: where a max-pool sees equal values (flat regions), its gradient
goes to the first of them, which shows as a faint grid; and where an activation is within rounding of zero, single and
double precision may take different sides, so that a float32 map differs from a float64 one by a few percent of its
maximum at single pixels.
"""

from ouzel.saliency.baselines import GivenImage
from ouzel.saliency.engine.batch import Batch
from ouzel.saliency.engine.deviation import Deviation
from ouzel.saliency.engine.work import SaliencyPlan
from ouzel.saliency.explainer import Explainer
from ouzel.saliency.method import Attribution, GradientSpec, Method, ModelFacts, Rows
from ouzel.saliency.reductions import REDUCTIONS
from ouzel.saliency.regions import Box, Mask, Pixel, Region
from ouzel.saliency.request import METHODS, Saliency, make_method
from ouzel.saliency.results import Explanation, SaliencyMap
from ouzel.saliency.targets import Contrast, Rank, ResolvedTarget, Target, Top, Within

__all__ = [
    "METHODS",
    "REDUCTIONS",
    "Attribution",
    "Batch",
    "Box",
    "Contrast",
    "Deviation",
    "Explainer",
    "Explanation",
    "GivenImage",
    "GradientSpec",
    "Mask",
    "Method",
    "ModelFacts",
    "Pixel",
    "Rank",
    "Region",
    "ResolvedTarget",
    "Rows",
    "Saliency",
    "SaliencyMap",
    "SaliencyPlan",
    "Target",
    "Top",
    "Within",
    "make_method",
]
