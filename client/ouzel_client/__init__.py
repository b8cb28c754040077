"""Python client of Ouzel: a prediction and its saliency maps in one call, and long work as jobs.

with Client() as ouzel:
    e = ouzel.models["efficientnet-lite0"].explain("cat.jpg", saliency=["guided", "grad_cam"], top_k=3)
    e.labels, e.scores
    e.saliency["guided"].overlay().save("why.png")
    job = ouzel.jobs.maximize("efficientnet-lite0", layer="blocks.3", channel=12)
    job.result(timeout=300).image
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    PermissionDenied,
    RequestError,
    ServerError,
    TransportError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    WaitTimeout,
)

if TYPE_CHECKING:
    from ouzel_client._async._audit import AsyncAudit
    from ouzel_client._async._client import AsyncClient
    from ouzel_client._async._datasets import AsyncDatasets
    from ouzel_client._async._job import AsyncJob
    from ouzel_client._async._jobs import AsyncJobs
    from ouzel_client._async._model import AsyncModel
    from ouzel_client._async._models import AsyncModels
    from ouzel_client._sync._audit import Audit
    from ouzel_client._sync._client import Client
    from ouzel_client._sync._datasets import Datasets
    from ouzel_client._sync._job import Job
    from ouzel_client._sync._jobs import Jobs
    from ouzel_client._sync._model import Model
    from ouzel_client._sync._models import Models
    from ouzel_client._transport.retry import Retry
    from ouzel_client._types.audit import AuditArguments, AuditEndpoint, AuditOptions, PredictionAudit, Reported
    from ouzel_client._types.audit_evidence import (
        Agreement,
        AuditEffect,
        AuditMap,
        AuditSource,
        ClassScore,
        Counterfactual,
        Faithfulness,
        ReportedMapComparison,
    )
    from ouzel_client._types.audit_job import DatasetAuditOptions, DatasetAuditResult, RecordedPrediction
    from ouzel_client._types.datasets import Dataset, DatasetReport, Duplicates
    from ouzel_client._types.detection import Detection, Detections
    from ouzel_client._types.early import EarlyOutcome
    from ouzel_client._types.explanation import (
        Estimate,
        Explanation,
        ResolvedTarget,
        SaliencyMap,
        SaliencyMaps,
        Timing,
        View,
    )
    from ouzel_client._types.grounding import GateCheck, GateVerdict, Grounding, Repair
    from ouzel_client._types.job_events import (
        JobEvent,
        LogEvent,
        MetricEvent,
        PreviewEvent,
        Progress,
        ProgressEvent,
        PublicationEvent,
        StateEvent,
        TrialEvent,
    )
    from ouzel_client._types.job_options import FinetuneOptions, JobOptions, RepairOptions
    from ouzel_client._types.jobs import Artifact, Channel, ClassLogit, Direction, FinetuneResult, JobResult, Unit
    from ouzel_client._types.ledger import LedgerEntry
    from ouzel_client._types.model_info import Deviation, ModelInfo
    from ouzel_client._types.models import ModelDetails, StoredModel
    from ouzel_client._types.regions import Box, Pixel
    from ouzel_client._types.saliency import Contrast, ExplainOptions, Rank, Saliency, Top, When, Within
    from ouzel_client._types.segmentation import Segmentation, SegmentedClass

__all__ = [
    "Agreement",
    "AlreadyExists",
    "AmbiguousKey",
    "Artifact",
    "AsyncAudit",
    "AsyncClient",
    "AsyncDatasets",
    "AsyncJob",
    "AsyncJobs",
    "AsyncModel",
    "AsyncModels",
    "Audit",
    "AuditArguments",
    "AuditEffect",
    "AuditEndpoint",
    "AuditMap",
    "AuditOptions",
    "AuditSource",
    "Box",
    "Channel",
    "ClassLogit",
    "ClassScore",
    "Client",
    "ConfigurationError",
    "Contrast",
    "Counterfactual",
    "DataLoss",
    "Dataset",
    "DatasetAuditOptions",
    "DatasetAuditResult",
    "DatasetReport",
    "Datasets",
    "DayUsage",
    "DeadlineExceeded",
    "Detection",
    "Detections",
    "Deviation",
    "Direction",
    "Duplicates",
    "EarlyOutcome",
    "Estimate",
    "ExplainOptions",
    "Explanation",
    "FailedPrecondition",
    "Faithfulness",
    "FinetuneOptions",
    "FinetuneResult",
    "GateCheck",
    "GateVerdict",
    "Grounding",
    "InvalidArgument",
    "Job",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobFailed",
    "JobOptions",
    "JobResult",
    "Jobs",
    "LedgerEntry",
    "LogEvent",
    "MetricEvent",
    "Model",
    "ModelDetails",
    "ModelInfo",
    "Models",
    "NotFound",
    "OuzelError",
    "Overloaded",
    "PermissionDenied",
    "Pixel",
    "PredictionAudit",
    "PreviewEvent",
    "Progress",
    "ProgressEvent",
    "PublicationEvent",
    "QuotaUsage",
    "Quote",
    "Rank",
    "RecordedPrediction",
    "Repair",
    "RepairOptions",
    "Reported",
    "ReportedMapComparison",
    "RequestError",
    "ResolvedTarget",
    "Retry",
    "Saliency",
    "SaliencyMap",
    "SaliencyMaps",
    "Segmentation",
    "SegmentedClass",
    "ServerError",
    "StateEvent",
    "StoredModel",
    "Timing",
    "Top",
    "TransportError",
    "TrialEvent",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unit",
    "Usage",
    "View",
    "WaitTimeout",
    "When",
    "Within",
]

# grpc and numpy take half a second to import. The command line, and code that only catches our errors, do not wait for
# them: these modules are searched in this order when a name is first used.
_MODULES = (
    "_transport.retry",
    *(
        f"_types.{module}"
        for module in (
            "jobs",
            "job_events",
            "job_options",
            "early",
            "grounding",
            "regions",
            "saliency",
            "datasets",
            "models",
            "explanation",
            "segmentation",
            "detection",
            "usage",
        )
    ),
    *(f"_types.{module}" for module in ("model_info", "audit", "audit_evidence", "audit_job", "ledger")),
    *(
        f"{half}.{module}"
        for half in ("_sync", "_async")
        for module in ("_client", "_audit", "_datasets", "_job", "_jobs", "_model", "_models")
    ),
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            value = vars(import_module(f"{__name__}.{module}")).get(name)
            if value is not None:
                globals()[name] = value
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
