from google.protobuf import timestamp_pb2 as _timestamp_pb2
from ouzel_protos.v1 import dataset_pb2 as _dataset_pb2
from ouzel_protos.v1 import explain_pb2 as _explain_pb2
from ouzel_protos.v1 import ledger_pb2 as _ledger_pb2
from ouzel_protos.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    RESTS_ON_OBJECT: _ClassVar[Verdict]
    RESTS_ON_BACKGROUND: _ClassVar[Verdict]
    DISAGREES: _ClassVar[Verdict]
    INCONCLUSIVE: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
RESTS_ON_OBJECT: Verdict
RESTS_ON_BACKGROUND: Verdict
DISAGREES: Verdict
INCONCLUSIVE: Verdict

class AuditPredictionRequest(_message.Message):
    __slots__ = ("image", "claimed", "model", "endpoint", "surrogate", "mask", "mask_file", "boxes", "scene", "method", "options", "reported", "dataset", "request_id", "include_pictures", "include_files", "contact")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SURROGATE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    MASK_FILE_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_PICTURES_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FILES_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    claimed: _explain_pb2.ClassRef
    model: str
    endpoint: str
    surrogate: str
    mask: _tensor_pb2.Tensor
    mask_file: bytes
    boxes: _containers.RepeatedCompositeFieldContainer[_dataset_pb2.Box]
    scene: bool
    method: str
    options: AuditOptions
    reported: ReportedPrediction
    dataset: str
    request_id: str
    include_pictures: bool
    include_files: bool
    contact: AuditContact
    def __init__(self, image: _Optional[bytes] = ..., claimed: _Optional[_Union[_explain_pb2.ClassRef, _Mapping]] = ..., model: _Optional[str] = ..., endpoint: _Optional[str] = ..., surrogate: _Optional[str] = ..., mask: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., mask_file: _Optional[bytes] = ..., boxes: _Optional[_Iterable[_Union[_dataset_pb2.Box, _Mapping]]] = ..., scene: bool = ..., method: _Optional[str] = ..., options: _Optional[_Union[AuditOptions, _Mapping]] = ..., reported: _Optional[_Union[ReportedPrediction, _Mapping]] = ..., dataset: _Optional[str] = ..., request_id: _Optional[str] = ..., include_pictures: bool = ..., include_files: bool = ..., contact: _Optional[_Union[AuditContact, _Mapping]] = ...) -> None: ...

class AuditContact(_message.Message):
    __slots__ = ("organisation", "contact")
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    organisation: str
    contact: str
    def __init__(self, organisation: _Optional[str] = ..., contact: _Optional[str] = ...) -> None: ...

class AuditOptions(_message.Message):
    __slots__ = ("fills", "scenes", "steps", "random_orders", "effect_margin", "control_margin", "seed")
    FILLS_FIELD_NUMBER: _ClassVar[int]
    SCENES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RANDOM_ORDERS_FIELD_NUMBER: _ClassVar[int]
    EFFECT_MARGIN_FIELD_NUMBER: _ClassVar[int]
    CONTROL_MARGIN_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    fills: _containers.RepeatedScalarFieldContainer[str]
    scenes: int
    steps: int
    random_orders: int
    effect_margin: float
    control_margin: float
    seed: int
    def __init__(self, fills: _Optional[_Iterable[str]] = ..., scenes: _Optional[int] = ..., steps: _Optional[int] = ..., random_orders: _Optional[int] = ..., effect_margin: _Optional[float] = ..., control_margin: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class ReportedPrediction(_message.Message):
    __slots__ = ("scores", "model", "version", "saliency", "time")
    class Score(_message.Message):
        __slots__ = ("label", "probability")
        LABEL_FIELD_NUMBER: _ClassVar[int]
        PROBABILITY_FIELD_NUMBER: _ClassVar[int]
        label: str
        probability: float
        def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...
    SCORES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SALIENCY_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    scores: _containers.RepeatedCompositeFieldContainer[ReportedPrediction.Score]
    model: str
    version: str
    saliency: _tensor_pb2.Tensor
    time: _timestamp_pb2.Timestamp
    def __init__(self, scores: _Optional[_Iterable[_Union[ReportedPrediction.Score, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., saliency: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AuditSource(_message.Message):
    __slots__ = ("kind", "name", "version", "digest")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[AuditSource.Kind]
        MODEL: _ClassVar[AuditSource.Kind]
        ENDPOINT: _ClassVar[AuditSource.Kind]
        CALLABLE: _ClassVar[AuditSource.Kind]
        TABLE: _ClassVar[AuditSource.Kind]
    KIND_UNSPECIFIED: AuditSource.Kind
    MODEL: AuditSource.Kind
    ENDPOINT: AuditSource.Kind
    CALLABLE: AuditSource.Kind
    TABLE: AuditSource.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    kind: AuditSource.Kind
    name: str
    version: str
    digest: str
    def __init__(self, kind: _Optional[_Union[AuditSource.Kind, str]] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class PredictionAudit(_message.Message):
    __slots__ = ("request_id", "verdict", "reason", "concern", "scene", "source", "agreement", "maps_from", "maps", "effects", "counterfactuals", "mask_source", "object_share", "limits", "options", "reported_map", "reported", "image_sha256", "view", "picture", "mask", "record", "record_sha256", "time", "files", "ledger")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CONCERN_FIELD_NUMBER: _ClassVar[int]
    SCENE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    MAPS_FROM_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    COUNTERFACTUALS_FIELD_NUMBER: _ClassVar[int]
    MASK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_SHARE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_MAP_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    IMAGE_SHA256_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    RECORD_SHA256_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    verdict: Verdict
    reason: str
    concern: bool
    scene: bool
    source: AuditSource
    agreement: Agreement
    maps_from: str
    maps: _containers.RepeatedCompositeFieldContainer[AuditMap]
    effects: _containers.RepeatedCompositeFieldContainer[AuditEffect]
    counterfactuals: _containers.RepeatedCompositeFieldContainer[Counterfactual]
    mask_source: str
    object_share: float
    limits: _containers.RepeatedScalarFieldContainer[str]
    options: AuditOptions
    reported_map: ReportedMapComparison
    reported: ReportedPrediction
    image_sha256: str
    view: _explain_pb2.View
    picture: bytes
    mask: bytes
    record: bytes
    record_sha256: str
    time: _timestamp_pb2.Timestamp
    files: _containers.RepeatedCompositeFieldContainer[AuditFile]
    ledger: _ledger_pb2.LedgerEntry
    def __init__(self, request_id: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reason: _Optional[str] = ..., concern: bool = ..., scene: bool = ..., source: _Optional[_Union[AuditSource, _Mapping]] = ..., agreement: _Optional[_Union[Agreement, _Mapping]] = ..., maps_from: _Optional[str] = ..., maps: _Optional[_Iterable[_Union[AuditMap, _Mapping]]] = ..., effects: _Optional[_Iterable[_Union[AuditEffect, _Mapping]]] = ..., counterfactuals: _Optional[_Iterable[_Union[Counterfactual, _Mapping]]] = ..., mask_source: _Optional[str] = ..., object_share: _Optional[float] = ..., limits: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[AuditOptions, _Mapping]] = ..., reported_map: _Optional[_Union[ReportedMapComparison, _Mapping]] = ..., reported: _Optional[_Union[ReportedPrediction, _Mapping]] = ..., image_sha256: _Optional[str] = ..., view: _Optional[_Union[_explain_pb2.View, _Mapping]] = ..., picture: _Optional[bytes] = ..., mask: _Optional[bytes] = ..., record: _Optional[bytes] = ..., record_sha256: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., files: _Optional[_Iterable[_Union[AuditFile, _Mapping]]] = ..., ledger: _Optional[_Union[_ledger_pb2.LedgerEntry, _Mapping]] = ...) -> None: ...

class AuditFile(_message.Message):
    __slots__ = ("name", "media_type", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    media_type: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., media_type: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class AuditScore(_message.Message):
    __slots__ = ("index", "label", "probability")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    probability: float
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("claimed", "predicted", "rival", "rank")
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    RIVAL_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    claimed: AuditScore
    predicted: AuditScore
    rival: AuditScore
    rank: int
    def __init__(self, claimed: _Optional[_Union[AuditScore, _Mapping]] = ..., predicted: _Optional[_Union[AuditScore, _Mapping]] = ..., rival: _Optional[_Union[AuditScore, _Mapping]] = ..., rank: _Optional[int] = ...) -> None: ...

class AuditMap(_message.Message):
    __slots__ = ("of", "method", "values", "caveats", "share_on_object", "pointing", "faithfulness")
    OF_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CAVEATS_FIELD_NUMBER: _ClassVar[int]
    SHARE_ON_OBJECT_FIELD_NUMBER: _ClassVar[int]
    POINTING_FIELD_NUMBER: _ClassVar[int]
    FAITHFULNESS_FIELD_NUMBER: _ClassVar[int]
    of: str
    method: str
    values: _tensor_pb2.Tensor
    caveats: _containers.RepeatedScalarFieldContainer[str]
    share_on_object: float
    pointing: float
    faithfulness: MapFaithfulness
    def __init__(self, of: _Optional[str] = ..., method: _Optional[str] = ..., values: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., caveats: _Optional[_Iterable[str]] = ..., share_on_object: _Optional[float] = ..., pointing: _Optional[float] = ..., faithfulness: _Optional[_Union[MapFaithfulness, _Mapping]] = ...) -> None: ...

class MapFaithfulness(_message.Message):
    __slots__ = ("deletion", "insertion", "random_deletion", "random_insertion")
    DELETION_FIELD_NUMBER: _ClassVar[int]
    INSERTION_FIELD_NUMBER: _ClassVar[int]
    RANDOM_DELETION_FIELD_NUMBER: _ClassVar[int]
    RANDOM_INSERTION_FIELD_NUMBER: _ClassVar[int]
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    def __init__(self, deletion: _Optional[float] = ..., insertion: _Optional[float] = ..., random_deletion: _Optional[float] = ..., random_insertion: _Optional[float] = ...) -> None: ...

class AuditEffect(_message.Message):
    __slots__ = ("change", "kind", "probability", "control", "effect", "flips", "control_flips", "pictures")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    FLIPS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FLIPS_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    change: str
    kind: str
    probability: float
    control: float
    effect: float
    flips: float
    control_flips: float
    pictures: int
    def __init__(self, change: _Optional[str] = ..., kind: _Optional[str] = ..., probability: _Optional[float] = ..., control: _Optional[float] = ..., effect: _Optional[float] = ..., flips: _Optional[float] = ..., control_flips: _Optional[float] = ..., pictures: _Optional[int] = ...) -> None: ...

class Counterfactual(_message.Message):
    __slots__ = ("name", "change", "kind", "changed_pixels", "probability", "predicted", "flipped", "picture")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHANGED_PIXELS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    FLIPPED_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    change: str
    kind: str
    changed_pixels: int
    probability: float
    predicted: str
    flipped: bool
    picture: bytes
    def __init__(self, name: _Optional[str] = ..., change: _Optional[str] = ..., kind: _Optional[str] = ..., changed_pixels: _Optional[int] = ..., probability: _Optional[float] = ..., predicted: _Optional[str] = ..., flipped: bool = ..., picture: _Optional[bytes] = ...) -> None: ...

class ReportedMapComparison(_message.Message):
    __slots__ = ("rank_correlation", "top_overlap")
    RANK_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    TOP_OVERLAP_FIELD_NUMBER: _ClassVar[int]
    rank_correlation: float
    top_overlap: float
    def __init__(self, rank_correlation: _Optional[float] = ..., top_overlap: _Optional[float] = ...) -> None: ...

class AuditReportedRequest(_message.Message):
    __slots__ = ("start", "answer")
    START_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    start: ReportedStart
    answer: ReportedAnswer
    def __init__(self, start: _Optional[_Union[ReportedStart, _Mapping]] = ..., answer: _Optional[_Union[ReportedAnswer, _Mapping]] = ...) -> None: ...

class ReportedStart(_message.Message):
    __slots__ = ("request", "labels", "name", "version", "height", "width", "resize")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    request: AuditPredictionRequest
    labels: _containers.RepeatedScalarFieldContainer[str]
    name: str
    version: str
    height: int
    width: int
    resize: int
    def __init__(self, request: _Optional[_Union[AuditPredictionRequest, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., resize: _Optional[int] = ...) -> None: ...

class ReportedAnswer(_message.Message):
    __slots__ = ("number", "scores")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    number: int
    scores: _tensor_pb2.Tensor
    def __init__(self, number: _Optional[int] = ..., scores: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class AuditReportedResponse(_message.Message):
    __slots__ = ("plan", "question", "audit")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FIELD_NUMBER: _ClassVar[int]
    plan: ReportedPlan
    question: ReportedQuestion
    audit: PredictionAudit
    def __init__(self, plan: _Optional[_Union[ReportedPlan, _Mapping]] = ..., question: _Optional[_Union[ReportedQuestion, _Mapping]] = ..., audit: _Optional[_Union[PredictionAudit, _Mapping]] = ...) -> None: ...

class ReportedPlan(_message.Message):
    __slots__ = ("pictures", "at_a_time", "patience")
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    AT_A_TIME_FIELD_NUMBER: _ClassVar[int]
    PATIENCE_FIELD_NUMBER: _ClassVar[int]
    pictures: int
    at_a_time: int
    patience: float
    def __init__(self, pictures: _Optional[int] = ..., at_a_time: _Optional[int] = ..., patience: _Optional[float] = ...) -> None: ...

class ReportedQuestion(_message.Message):
    __slots__ = ("number", "pictures")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    number: int
    pictures: _tensor_pb2.Tensor
    def __init__(self, number: _Optional[int] = ..., pictures: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ListAuditSourcesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAuditSourcesResponse(_message.Message):
    __slots__ = ("sources",)
    class Source(_message.Message):
        __slots__ = ("name", "kind", "classes", "height", "width")
        NAME_FIELD_NUMBER: _ClassVar[int]
        KIND_FIELD_NUMBER: _ClassVar[int]
        CLASSES_FIELD_NUMBER: _ClassVar[int]
        HEIGHT_FIELD_NUMBER: _ClassVar[int]
        WIDTH_FIELD_NUMBER: _ClassVar[int]
        name: str
        kind: str
        classes: int
        height: int
        width: int
        def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., classes: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[ListAuditSourcesResponse.Source]
    def __init__(self, sources: _Optional[_Iterable[_Union[ListAuditSourcesResponse.Source, _Mapping]]] = ...) -> None: ...
