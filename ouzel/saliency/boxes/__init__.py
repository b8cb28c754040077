"""What detectors found, and why: maps of single boxes.

    explainer = DetectionExplainer(model)
    answer = explainer(x, [BoxSaliency("d_rise"), BoxSaliency("gradient", Rank(1))])
    answer.detections[0].boxes     # (D, 4), pixels of the input
    answer.maps[0][1].values       # (H, W), of the first image's second request

`d_rise` also explains a box that was not found: `BoxSaliency("d_rise", GivenBox("cat", (10, 20, 90, 60)))`.
"""

from ouzel.saliency.boxes.d_rise import DRise
from ouzel.saliency.boxes.explainer import Answered, DetectionExplainer
from ouzel.saliency.boxes.request import METHODS, BoxPlan, BoxSaliency
from ouzel.saliency.boxes.targets import BoxTarget, GivenBox

__all__ = [
    "METHODS",
    "Answered",
    "BoxPlan",
    "BoxSaliency",
    "BoxTarget",
    "DRise",
    "DetectionExplainer",
    "GivenBox",
]
