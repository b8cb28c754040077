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

from ouzel.audit.cost import most_pictures
from ouzel.audit.evidence import Margins, PredictionEvidence, Verdict
from ouzel.audit.maps import AnswerMaps, Maps, ModelMaps
from ouzel.audit.options import Claim, PredictionOptions
from ouzel.audit.pool import Pool, Scene
from ouzel.audit.prediction import audit_prediction
from ouzel.audit.predictor import ModelPredictor, Predictor, Source
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
