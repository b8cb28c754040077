"""How far saliency maps can be trusted: measured, for one model and its methods, beside maps that know nothing of it.

from ouzel.trust import shipped, trust

report = trust(model, shipped(model.preprocessing))
report.scores[0].method, report.scores[0].figures["deletion"]
"""

from ouzel.models.photographs import Photograph, each_of_folder, from_folder, shipped, whole
from ouzel.trust.explainers import EDGES, RANDOM
from ouzel.trust.report import MPRT_LIMIT, QUICK, Score, TrustOptions, TrustReport, trust

__all__ = [
    "EDGES",
    "MPRT_LIMIT",
    "QUICK",
    "RANDOM",
    "Photograph",
    "Score",
    "TrustOptions",
    "TrustReport",
    "each_of_folder",
    "from_folder",
    "shipped",
    "trust",
    "whole",
]
