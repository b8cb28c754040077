from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from ouzel_protos.v1 import audit_pb2 as _audit_pb2
from ouzel_protos.v1 import explain_pb2 as _explain_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Job(_message.Message):
    __slots__ = ("id", "spec", "state", "attempt", "progress", "create_time", "start_time", "end_time", "update_time", "error", "result", "last_sequence", "priority", "labels", "request_id", "max_duration", "quote")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Job.State]
        QUEUED: _ClassVar[Job.State]
        RUNNING: _ClassVar[Job.State]
        PUBLISHING: _ClassVar[Job.State]
        PAUSED: _ClassVar[Job.State]
        CANCELLING: _ClassVar[Job.State]
        SUCCEEDED: _ClassVar[Job.State]
        FAILED: _ClassVar[Job.State]
        CANCELLED: _ClassVar[Job.State]
    STATE_UNSPECIFIED: Job.State
    QUEUED: Job.State
    RUNNING: Job.State
    PUBLISHING: Job.State
    PAUSED: Job.State
    CANCELLING: Job.State
    SUCCEEDED: Job.State
    FAILED: Job.State
    CANCELLED: Job.State
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    id: str
    spec: JobSpec
    state: Job.State
    attempt: int
    progress: Progress
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    error: JobError
    result: JobResult
    last_sequence: int
    priority: int
    labels: _containers.ScalarMap[str, str]
    request_id: str
    max_duration: _duration_pb2.Duration
    quote: Quote
    def __init__(self, id: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., state: _Optional[_Union[Job.State, str]] = ..., attempt: _Optional[int] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., result: _Optional[_Union[JobResult, _Mapping]] = ..., last_sequence: _Optional[int] = ..., priority: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ..., max_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., quote: _Optional[_Union[Quote, _Mapping]] = ...) -> None: ...

class Quote(_message.Message):
    __slots__ = ("low", "likely", "high", "gpus", "jobs")
    LOW_FIELD_NUMBER: _ClassVar[int]
    LIKELY_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    low: float
    likely: float
    high: float
    gpus: float
    jobs: int
    def __init__(self, low: _Optional[float] = ..., likely: _Optional[float] = ..., high: _Optional[float] = ..., gpus: _Optional[float] = ..., jobs: _Optional[int] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("maximize", "search_activations", "finetune", "audit", "traceparent", "tracestate", "notify", "max_cost", "scale", "work_units")
    MAXIMIZE_FIELD_NUMBER: _ClassVar[int]
    SEARCH_ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    FINETUNE_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    NOTIFY_FIELD_NUMBER: _ClassVar[int]
    MAX_COST_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    WORK_UNITS_FIELD_NUMBER: _ClassVar[int]
    maximize: MaximizeSpec
    search_activations: SearchActivationsSpec
    finetune: FinetuneSpec
    audit: AuditSpec
    traceparent: str
    tracestate: str
    notify: str
    max_cost: _duration_pb2.Duration
    scale: str
    work_units: float
    def __init__(self, maximize: _Optional[_Union[MaximizeSpec, _Mapping]] = ..., search_activations: _Optional[_Union[SearchActivationsSpec, _Mapping]] = ..., finetune: _Optional[_Union[FinetuneSpec, _Mapping]] = ..., audit: _Optional[_Union[AuditSpec, _Mapping]] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., notify: _Optional[str] = ..., max_cost: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., scale: _Optional[str] = ..., work_units: _Optional[float] = ...) -> None: ...

class MaximizeSpec(_message.Message):
    __slots__ = ("model", "targets", "recipe", "parameters", "seed", "images_per_target", "height", "width", "model_digest", "judge", "judge_digest", "dataset", "path")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _explain_pb2.Parameter
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_explain_pb2.Parameter, _Mapping]] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    IMAGES_PER_TARGET_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    JUDGE_FIELD_NUMBER: _ClassVar[int]
    JUDGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    model: str
    targets: _containers.RepeatedCompositeFieldContainer[Node]
    recipe: str
    parameters: _containers.MessageMap[str, _explain_pb2.Parameter]
    seed: int
    images_per_target: int
    height: int
    width: int
    model_digest: str
    judge: str
    judge_digest: str
    dataset: str
    path: bool
    def __init__(self, model: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., recipe: _Optional[str] = ..., parameters: _Optional[_Mapping[str, _explain_pb2.Parameter]] = ..., seed: _Optional[int] = ..., images_per_target: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., model_digest: _Optional[str] = ..., judge: _Optional[str] = ..., judge_digest: _Optional[str] = ..., dataset: _Optional[str] = ..., path: bool = ...) -> None: ...

class SearchActivationsSpec(_message.Message):
    __slots__ = ("model", "targets", "dataset", "top_k", "model_digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    targets: _containers.RepeatedCompositeFieldContainer[Node]
    dataset: str
    top_k: int
    model_digest: str
    def __init__(self, model: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., dataset: _Optional[str] = ..., top_k: _Optional[int] = ..., model_digest: _Optional[str] = ...) -> None: ...

class FinetuneSpec(_message.Message):
    __slots__ = ("base", "dataset", "recipe", "name", "promote", "parameters", "seed", "max_training_seconds", "image_size", "base_digest", "accuracy_margin", "reliance_margin", "scenes", "early", "workers", "search", "trials")
    class Promotion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PROMOTION_UNSPECIFIED: _ClassVar[FinetuneSpec.Promotion]
        NEVER: _ClassVar[FinetuneSpec.Promotion]
        IF_BETTER: _ClassVar[FinetuneSpec.Promotion]
        ALWAYS: _ClassVar[FinetuneSpec.Promotion]
        IF_GROUNDED: _ClassVar[FinetuneSpec.Promotion]
    PROMOTION_UNSPECIFIED: FinetuneSpec.Promotion
    NEVER: FinetuneSpec.Promotion
    IF_BETTER: FinetuneSpec.Promotion
    ALWAYS: FinetuneSpec.Promotion
    IF_GROUNDED: FinetuneSpec.Promotion
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _explain_pb2.Parameter
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_explain_pb2.Parameter, _Mapping]] = ...) -> None: ...
    class SearchEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: SearchRange
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[SearchRange, _Mapping]] = ...) -> None: ...
    BASE_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROMOTE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_TRAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_MARGIN_FIELD_NUMBER: _ClassVar[int]
    RELIANCE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    SCENES_FIELD_NUMBER: _ClassVar[int]
    EARLY_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    base: str
    dataset: str
    recipe: str
    name: str
    promote: FinetuneSpec.Promotion
    parameters: _containers.MessageMap[str, _explain_pb2.Parameter]
    seed: int
    max_training_seconds: float
    image_size: int
    base_digest: str
    accuracy_margin: float
    reliance_margin: float
    scenes: _containers.RepeatedScalarFieldContainer[str]
    early: bool
    workers: int
    search: _containers.MessageMap[str, SearchRange]
    trials: int
    def __init__(self, base: _Optional[str] = ..., dataset: _Optional[str] = ..., recipe: _Optional[str] = ..., name: _Optional[str] = ..., promote: _Optional[_Union[FinetuneSpec.Promotion, str]] = ..., parameters: _Optional[_Mapping[str, _explain_pb2.Parameter]] = ..., seed: _Optional[int] = ..., max_training_seconds: _Optional[float] = ..., image_size: _Optional[int] = ..., base_digest: _Optional[str] = ..., accuracy_margin: _Optional[float] = ..., reliance_margin: _Optional[float] = ..., scenes: _Optional[_Iterable[str]] = ..., early: bool = ..., workers: _Optional[int] = ..., search: _Optional[_Mapping[str, SearchRange]] = ..., trials: _Optional[int] = ...) -> None: ...

class SearchRange(_message.Message):
    __slots__ = ("interval", "choices")
    class Interval(_message.Message):
        __slots__ = ("low", "high", "log")
        LOW_FIELD_NUMBER: _ClassVar[int]
        HIGH_FIELD_NUMBER: _ClassVar[int]
        LOG_FIELD_NUMBER: _ClassVar[int]
        low: float
        high: float
        log: bool
        def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., log: bool = ...) -> None: ...
    class Choices(_message.Message):
        __slots__ = ("values",)
        VALUES_FIELD_NUMBER: _ClassVar[int]
        values: _containers.RepeatedCompositeFieldContainer[_explain_pb2.Parameter]
        def __init__(self, values: _Optional[_Iterable[_Union[_explain_pb2.Parameter, _Mapping]]] = ...) -> None: ...
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    interval: SearchRange.Interval
    choices: SearchRange.Choices
    def __init__(self, interval: _Optional[_Union[SearchRange.Interval, _Mapping]] = ..., choices: _Optional[_Union[SearchRange.Choices, _Mapping]] = ...) -> None: ...

class AuditSpec(_message.Message):
    __slots__ = ("model", "endpoint", "dataset", "recorded", "surrogate", "method", "scenes", "fills", "parameters", "seed", "contact", "model_digest", "surrogate_digest")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _explain_pb2.Parameter
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_explain_pb2.Parameter, _Mapping]] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    SURROGATE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SCENES_FIELD_NUMBER: _ClassVar[int]
    FILLS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SURROGATE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    endpoint: str
    dataset: str
    recorded: _containers.RepeatedCompositeFieldContainer[RecordedPrediction]
    surrogate: str
    method: str
    scenes: _containers.RepeatedScalarFieldContainer[str]
    fills: _containers.RepeatedScalarFieldContainer[str]
    parameters: _containers.MessageMap[str, _explain_pb2.Parameter]
    seed: int
    contact: _audit_pb2.AuditContact
    model_digest: str
    surrogate_digest: str
    def __init__(self, model: _Optional[str] = ..., endpoint: _Optional[str] = ..., dataset: _Optional[str] = ..., recorded: _Optional[_Iterable[_Union[RecordedPrediction, _Mapping]]] = ..., surrogate: _Optional[str] = ..., method: _Optional[str] = ..., scenes: _Optional[_Iterable[str]] = ..., fills: _Optional[_Iterable[str]] = ..., parameters: _Optional[_Mapping[str, _explain_pb2.Parameter]] = ..., seed: _Optional[int] = ..., contact: _Optional[_Union[_audit_pb2.AuditContact, _Mapping]] = ..., model_digest: _Optional[str] = ..., surrogate_digest: _Optional[str] = ...) -> None: ...

class RecordedPrediction(_message.Message):
    __slots__ = ("path", "label", "service", "time")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    path: str
    label: str
    service: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, path: _Optional[str] = ..., label: _Optional[str] = ..., service: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("logit", "unit", "channel", "direction")
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    logit: _explain_pb2.ClassRef
    unit: Unit
    channel: Channel
    direction: Direction
    def __init__(self, logit: _Optional[_Union[_explain_pb2.ClassRef, _Mapping]] = ..., unit: _Optional[_Union[Unit, _Mapping]] = ..., channel: _Optional[_Union[Channel, _Mapping]] = ..., direction: _Optional[_Union[Direction, _Mapping]] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("layer", "channel", "x", "y")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    layer: str
    channel: int
    x: int
    y: int
    def __init__(self, layer: _Optional[str] = ..., channel: _Optional[int] = ..., x: _Optional[int] = ..., y: _Optional[int] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("layer", "channel")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    layer: str
    channel: int
    def __init__(self, layer: _Optional[str] = ..., channel: _Optional[int] = ...) -> None: ...

class Direction(_message.Message):
    __slots__ = ("layer", "weights")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    layer: str
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, layer: _Optional[str] = ..., weights: _Optional[_Iterable[float]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "steps", "phase")
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    step: int
    steps: int
    phase: str
    def __init__(self, step: _Optional[int] = ..., steps: _Optional[int] = ..., phase: _Optional[str] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("failure_class", "message", "field", "error_id")
    class Class(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CLASS_UNSPECIFIED: _ClassVar[JobError.Class]
        USER: _ClassVar[JobError.Class]
        RESOURCE: _ClassVar[JobError.Class]
        INFRASTRUCTURE: _ClassVar[JobError.Class]
        TIMEOUT: _ClassVar[JobError.Class]
    CLASS_UNSPECIFIED: JobError.Class
    USER: JobError.Class
    RESOURCE: JobError.Class
    INFRASTRUCTURE: JobError.Class
    TIMEOUT: JobError.Class
    FAILURE_CLASS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    ERROR_ID_FIELD_NUMBER: _ClassVar[int]
    failure_class: JobError.Class
    message: str
    field: str
    error_id: str
    def __init__(self, failure_class: _Optional[_Union[JobError.Class, str]] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., error_id: _Optional[str] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("artifacts", "summary")
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    summary: _struct_pb2.Struct
    def __init__(self, artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., summary: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("name", "media_type", "size", "sha256", "url", "url_expire_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    URL_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    media_type: str
    size: int
    sha256: str
    url: str
    url_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., media_type: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[str] = ..., url: _Optional[str] = ..., url_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("sequence", "time", "attempt", "progress", "metric", "preview", "log", "state_change", "publication", "trial")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    STATE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    attempt: int
    progress: Progress
    metric: Metric
    preview: Preview
    log: Log
    state_change: StateChange
    publication: Publication
    trial: Trial
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempt: _Optional[int] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., metric: _Optional[_Union[Metric, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., log: _Optional[_Union[Log, _Mapping]] = ..., state_change: _Optional[_Union[StateChange, _Mapping]] = ..., publication: _Optional[_Union[Publication, _Mapping]] = ..., trial: _Optional[_Union[Trial, _Mapping]] = ...) -> None: ...

class Trial(_message.Message):
    __slots__ = ("number", "trials", "parameters", "outcome", "score", "epochs", "reason")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Trial.Outcome]
        COMPLETE: _ClassVar[Trial.Outcome]
        PRUNED: _ClassVar[Trial.Outcome]
        DIVERGED: _ClassVar[Trial.Outcome]
    OUTCOME_UNSPECIFIED: Trial.Outcome
    COMPLETE: Trial.Outcome
    PRUNED: Trial.Outcome
    DIVERGED: Trial.Outcome
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _explain_pb2.Parameter
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_explain_pb2.Parameter, _Mapping]] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    number: int
    trials: int
    parameters: _containers.MessageMap[str, _explain_pb2.Parameter]
    outcome: Trial.Outcome
    score: float
    epochs: int
    reason: str
    def __init__(self, number: _Optional[int] = ..., trials: _Optional[int] = ..., parameters: _Optional[_Mapping[str, _explain_pb2.Parameter]] = ..., outcome: _Optional[_Union[Trial.Outcome, str]] = ..., score: _Optional[float] = ..., epochs: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("step", "values")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    step: int
    values: _containers.ScalarMap[str, float]
    def __init__(self, step: _Optional[int] = ..., values: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("step", "title", "media_type", "image")
    STEP_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    step: int
    title: str
    media_type: str
    image: bytes
    def __init__(self, step: _Optional[int] = ..., title: _Optional[str] = ..., media_type: _Optional[str] = ..., image: _Optional[bytes] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("level", "message")
    class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        LEVEL_UNSPECIFIED: _ClassVar[Log.Level]
        INFO: _ClassVar[Log.Level]
        WARNING: _ClassVar[Log.Level]
        ERROR: _ClassVar[Log.Level]
    LEVEL_UNSPECIFIED: Log.Level
    INFO: Log.Level
    WARNING: Log.Level
    ERROR: Log.Level
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    level: Log.Level
    message: str
    def __init__(self, level: _Optional[_Union[Log.Level, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("model", "version", "digest", "promoted", "served", "number")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    digest: str
    promoted: bool
    served: bool
    number: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., promoted: bool = ..., served: bool = ..., number: _Optional[int] = ...) -> None: ...

class StateChange(_message.Message):
    __slots__ = ("previous", "state", "reason")
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    previous: Job.State
    state: Job.State
    reason: str
    def __init__(self, previous: _Optional[_Union[Job.State, str]] = ..., state: _Optional[_Union[Job.State, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("spec", "request_id", "priority", "labels", "max_duration", "validate_only")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SPEC_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    spec: JobSpec
    request_id: str
    priority: int
    labels: _containers.ScalarMap[str, str]
    max_duration: _duration_pb2.Duration
    validate_only: bool
    def __init__(self, spec: _Optional[_Union[JobSpec, _Mapping]] = ..., request_id: _Optional[str] = ..., priority: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., max_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("days",)
    DAYS_FIELD_NUMBER: _ClassVar[int]
    days: int
    def __init__(self, days: _Optional[int] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("days", "artifact_bytes", "dataset_bytes", "reserved_bytes", "quotas")
    DAYS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATASET_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    days: _containers.RepeatedCompositeFieldContainer[DayUsage]
    artifact_bytes: int
    dataset_bytes: int
    reserved_bytes: int
    quotas: _containers.RepeatedCompositeFieldContainer[QuotaUsage]
    def __init__(self, days: _Optional[_Iterable[_Union[DayUsage, _Mapping]]] = ..., artifact_bytes: _Optional[int] = ..., dataset_bytes: _Optional[int] = ..., reserved_bytes: _Optional[int] = ..., quotas: _Optional[_Iterable[_Union[QuotaUsage, _Mapping]]] = ...) -> None: ...

class DayUsage(_message.Message):
    __slots__ = ("day", "kind", "seconds", "gpu_seconds", "succeeded", "failed", "cancelled")
    DAY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    GPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    day: str
    kind: str
    seconds: float
    gpu_seconds: float
    succeeded: int
    failed: int
    cancelled: int
    def __init__(self, day: _Optional[str] = ..., kind: _Optional[str] = ..., seconds: _Optional[float] = ..., gpu_seconds: _Optional[float] = ..., succeeded: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ...) -> None: ...

class QuotaUsage(_message.Message):
    __slots__ = ("name", "used", "limit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    used: float
    limit: float
    def __init__(self, name: _Optional[str] = ..., used: _Optional[float] = ..., limit: _Optional[float] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("states", "kind", "labels", "page_size", "page_token")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[Job.State]
    kind: str
    labels: _containers.ScalarMap[str, str]
    page_size: int
    page_token: str
    def __init__(self, states: _Optional[_Iterable[_Union[Job.State, str]]] = ..., kind: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("id", "after_sequence")
    ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    after_sequence: int
    def __init__(self, id: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class WaitJobRequest(_message.Message):
    __slots__ = ("id", "timeout")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    id: str
    timeout: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class PauseJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ResumeJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RetryJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class ListArtifactsRequest(_message.Message):
    __slots__ = ("id", "links")
    ID_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    id: str
    links: bool
    def __init__(self, id: _Optional[str] = ..., links: bool = ...) -> None: ...

class ListArtifactsResponse(_message.Message):
    __slots__ = ("artifacts",)
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class DownloadArtifactRequest(_message.Message):
    __slots__ = ("id", "name", "offset")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    offset: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class ArtifactChunk(_message.Message):
    __slots__ = ("offset", "data", "artifact")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    artifact: Artifact
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ...) -> None: ...
