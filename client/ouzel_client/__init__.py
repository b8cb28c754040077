"""Thin Python client of Ouzel: a prediction and its saliency maps in one call, and long work as jobs.

with Client() as ouzel:
    e = ouzel.models["efficientnet-lite0"].explain("cat.jpg", saliency=["guided", "grad_cam"], top_k=3)
    e.labels, e.scores
    e.saliency["guided"].overlay().save("why.png")
    job = ouzel.jobs.maximize("efficientnet-lite0", layer="blocks.3", channel=12)
    job.result(timeout=300).image
"""

from __future__ import annotations

from ouzel_client._async._client import AsyncClient
from ouzel_client._async._datasets import AsyncDatasets
from ouzel_client._async._job import AsyncJob
from ouzel_client._async._jobs import AsyncJobs
from ouzel_client._async._models import AsyncModel, AsyncModels
from ouzel_client._dataset_types import Dataset, DatasetReport, Duplicates
from ouzel_client._job_types import (
    Artifact,
    Channel,
    ClassLogit,
    Direction,
    FinetuneResult,
    JobEvent,
    JobResult,
    LogEvent,
    MetricEvent,
    PreviewEvent,
    Progress,
    ProgressEvent,
    StateEvent,
    Unit,
)
from ouzel_client._model_types import ModelDetails, StoredModel
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
from ouzel_client._sync._datasets import Datasets
from ouzel_client._sync._job import Job
from ouzel_client._sync._jobs import Jobs
from ouzel_client._sync._models import Model, Models
from ouzel_client.errors import (
    AlreadyExists,
    AmbiguousKey,
    ConfigurationError,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    JobCancelled,
    JobError,
    JobFailed,
    NotFound,
    OuzelError,
    Overloaded,
    RequestError,
    ServerError,
    TransportError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    WaitTimeout,
)

__all__ = [
    "AlreadyExists",
    "AmbiguousKey",
    "Artifact",
    "AsyncClient",
    "AsyncDatasets",
    "AsyncJob",
    "AsyncJobs",
    "AsyncModel",
    "AsyncModels",
    "Channel",
    "ClassLogit",
    "Client",
    "ConfigurationError",
    "Contrast",
    "DataLoss",
    "Dataset",
    "DatasetReport",
    "Datasets",
    "DeadlineExceeded",
    "Direction",
    "Duplicates",
    "Estimate",
    "Explanation",
    "FailedPrecondition",
    "FinetuneResult",
    "InvalidArgument",
    "Job",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobFailed",
    "JobResult",
    "Jobs",
    "LogEvent",
    "MetricEvent",
    "Model",
    "ModelDetails",
    "ModelInfo",
    "Models",
    "NotFound",
    "OuzelError",
    "Overloaded",
    "PreviewEvent",
    "Progress",
    "ProgressEvent",
    "RequestError",
    "ResolvedTarget",
    "Retry",
    "Saliency",
    "SaliencyMap",
    "SaliencyMaps",
    "ServerError",
    "StateEvent",
    "StoredModel",
    "Timing",
    "Top",
    "TransportError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unit",
    "View",
    "WaitTimeout",
    "When",
]
