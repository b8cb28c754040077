"""Thin Python client of Ouzel: a prediction and its saliency maps, in one call.

with Client() as ouzel:
    e = ouzel.models["efficientnet-lite0"].explain("cat.jpg", saliency=["guided", "grad_cam"], top_k=3)
    e.labels, e.scores
    e.saliency["guided"].overlay().save("why.png")
"""

from __future__ import annotations

from ouzel_client._async._client import AsyncClient
from ouzel_client._async._models import AsyncModel, AsyncModels
from ouzel_client._options import Contrast, Saliency, Top, When
from ouzel_client._results import (
    Estimate,
    Explanation,
    ModelInfo,
    ResolvedTarget,
    SaliencyMap,
    SaliencyMaps,
    Timing,
    View,
)
from ouzel_client._retry import Retry
from ouzel_client._sync._client import Client
from ouzel_client._sync._models import Model, Models
from ouzel_client.errors import (
    AmbiguousKey,
    ConfigurationError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OuzelError,
    Overloaded,
    RequestError,
    ServerError,
    TransportError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

__all__ = [
    "AmbiguousKey",
    "AsyncClient",
    "AsyncModel",
    "AsyncModels",
    "Client",
    "ConfigurationError",
    "Contrast",
    "DeadlineExceeded",
    "Estimate",
    "Explanation",
    "FailedPrecondition",
    "InvalidArgument",
    "Model",
    "ModelInfo",
    "Models",
    "NotFound",
    "OuzelError",
    "Overloaded",
    "RequestError",
    "ResolvedTarget",
    "Retry",
    "Saliency",
    "SaliencyMap",
    "SaliencyMaps",
    "ServerError",
    "Timing",
    "Top",
    "TransportError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "View",
    "When",
]
