"""A model that answers, with what computes for it."""

from __future__ import annotations

from dataclasses import dataclass

from ouzel.models import Model
from ouzel.saliency import Explainer
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
        apart: Layers whose output depends on the head. A row that looks at one is computed with rows of its own model.
    """

    model: Model
    explainer: Explainer
    info: pb.ModelInfo
    head: Head | None = None
    apart: frozenset[str] = frozenset()
