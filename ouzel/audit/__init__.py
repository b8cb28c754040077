"""Auditing: does a prediction rest on the object, or on what is behind it?

A saliency map nominates regions. Paired changes of the image decide: what happens to the prediction if the background
is replaced, against a control that changes as many pixels and leaves the evidence in place.

    predictor = ModelPredictor(model)
    maps = ModelMaps(model, model.labels, "grad_cam")
    evidence = audit_prediction(predictor, maps, image, Claim("goat", mask=mask))
    evidence.verdict, evidence.reason

References:
    Adebayo, Muelly, Abelson, Kim 2022, "Post hoc explanations may be ineffective for detecting unknown spurious
    correlation", arXiv 2212.04629.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ouzel.audit.cost import most_pictures
    from ouzel.audit.evidence import Margins, PredictionEvidence, Verdict
    from ouzel.audit.maps import AnswerMaps, Maps, ModelMaps
    from ouzel.audit.options import Claim, PredictionOptions
    from ouzel.audit.pool import Pool, Scene
    from ouzel.audit.prediction import audit_prediction
    from ouzel.audit.predictor import ModelPredictor, Predictor
    from ouzel.audit.source import Source
    from ouzel.audit.view import View

__all__ = [
    "AnswerMaps",
    "Claim",
    "Maps",
    "Margins",
    "ModelMaps",
    "ModelPredictor",
    "Pool",
    "PredictionEvidence",
    "PredictionOptions",
    "Predictor",
    "Scene",
    "Source",
    "Verdict",
    "View",
    "audit_prediction",
    "most_pictures",
]
# Modules are loaded when a name is asked for: statistics and designs are used by services that have no torch.
_HOMES = {
    "cost": ("most_pictures",),
    "evidence": ("Margins", "PredictionEvidence", "Verdict"),
    "maps": ("AnswerMaps", "Maps", "ModelMaps"),
    "options": ("Claim", "PredictionOptions"),
    "pool": ("Pool", "Scene"),
    "prediction": ("audit_prediction",),
    "predictor": ("ModelPredictor", "Predictor"),
    "source": ("Source",),
    "view": ("View",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
