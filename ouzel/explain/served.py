"""A model that answers, with what computes for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ouzel.explain.device_decoder import DeviceDecoder
from ouzel.models import Model
from ouzel.saliency import Explainer, Saliency, SaliencyPlan
from ouzel.saliency.boxes import BoxPlan, BoxSaliency, DetectionExplainer
from ouzel.saliency.engine.heads import Head
from ouzel_protos.v1 import explain_pb2 as pb


@dataclass(frozen=True, eq=False)
class Served:
    """A model that answers.

    Attributes:
        model: Whose labels and preprocessing count.
        explainer: That computes. Models that share it are computed together.
        info: What its answers say of it.
        head: Of a network that several models share; None of a network of the model's own.
        decoder: That decodes images on the model's device; None if processors do.
        apart: Layers whose output depends on the head. A row that looks at one is computed with rows of its own model.
    """

    model: Model
    explainer: Explainer | DetectionExplainer
    info: pb.ModelInfo
    head: Head | None = None
    apart: frozenset[str] = frozenset()
    decoder: DeviceDecoder | None = None

    @property
    def detector(self) -> DetectionExplainer | None:
        """What explains, of a detector; else None."""
        return self.explainer if isinstance(self.explainer, DetectionExplainer) else None

    @property
    def classifier(self) -> Explainer:
        """What explains, of a model that is no detector: it classifies images, or pixels."""
        assert isinstance(self.explainer, Explainer)
        return self.explainer

    def plan(self, requests: Sequence[Saliency | BoxSaliency], height: int, width: int) -> SaliencyPlan | BoxPlan:
        """Check requests, which are of the model's kind. Arguments and errors as those of `Explainer.plan`."""
        if self.detector is not None:
            return self.detector.plan([one for one in requests if isinstance(one, BoxSaliency)], height, width)
        mine = [one for one in requests if isinstance(one, Saliency)]
        return self.classifier.plan(mine, height, width, self.head)
