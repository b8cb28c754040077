"""Which texts in requests to the worker name models. Each is in one of the two tables, by its message.

Whoever may see some models only is refused a request with a text that is in neither: a new field lets nobody in.
"""

from __future__ import annotations

from collections.abc import Mapping


def _table(**fields: str) -> Mapping[str, frozenset[str]]:
    return {message: frozenset(names.split()) for message, names in fields.items()}


MODELS = _table(
    AuditPredictionRequest="model surrogate",
    AuditSpec="model surrogate",
    DeleteModelRequest="name",
    FinetuneSpec="base name",
    GetModelRequest="name",
    ListModelsRequest="name",
    MaximizeSpec="judge model",
    PromoteModelRequest="name",
    SearchActivationsSpec="model",
)
OTHERS = _table(
    AuditContact="contact organisation",
    AuditOptions="fills",
    AuditPredictionRequest="dataset endpoint method request_id",
    AuditSpec="dataset endpoint fills method model_digest scenes surrogate_digest",
    CancelJobRequest="id",
    Channel="layer",
    CheckDatasetRequest="id",
    ClassRef="label",
    CreateDatasetRequest="box_classes id mask_classes title",
    CreateJobRequest="request_id",
    DatasetEntry="label path split",
    DeleteDatasetRequest="id",
    DeleteJobRequest="id",
    DeleteModelRequest="version",
    Direction="layer",
    DownloadArtifactRequest="id name",
    FileRef="sha256",
    FinetuneSpec="base_digest dataset recipe scenes",
    GetDatasetRequest="id",
    GetJobRequest="id",
    GetModelRequest="version",
    JobSpec="notify scale traceparent tracestate",
    ListArtifactsRequest="id",
    ListDatasetsRequest="page_token",
    ListJobsRequest="kind page_token",
    MaximizeSpec="dataset judge_digest model_digest recipe",
    Parameter="text",  # of methods and recipes: none of them takes a model
    PauseJobRequest="id",
    PromoteModelRequest="version",
    RecordedPrediction="label path service",
    ReportedPrediction="model version",  # of another service
    ReportedStart="labels name version",  # likewise
    ResumeJobRequest="id",
    RetryJobRequest="id",
    Score="label",
    SearchActivationsSpec="dataset model_digest",
    Unit="layer",
    WaitJobRequest="id",
    WatchJobRequest="id",
)
