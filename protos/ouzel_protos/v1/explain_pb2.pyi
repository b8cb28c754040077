from ouzel_protos.v1 import ledger_pb2 as _ledger_pb2
from ouzel_protos.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChannelReduction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_REDUCTION_UNSPECIFIED: _ClassVar[ChannelReduction]
    MAX_ABS: _ClassVar[ChannelReduction]
    SUM_ABS: _ClassVar[ChannelReduction]
    SIGNED_SUM: _ClassVar[ChannelReduction]
    NONE: _ClassVar[ChannelReduction]

class MapSize(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MAP_SIZE_UNSPECIFIED: _ClassVar[MapSize]
    MODEL_INPUT: _ClassVar[MapSize]
    ORIGINAL_IMAGE: _ClassVar[MapSize]
CHANNEL_REDUCTION_UNSPECIFIED: ChannelReduction
MAX_ABS: ChannelReduction
SUM_ABS: ChannelReduction
SIGNED_SUM: ChannelReduction
NONE: ChannelReduction
MAP_SIZE_UNSPECIFIED: MapSize
MODEL_INPUT: MapSize
ORIGINAL_IMAGE: MapSize

class ExplainOptions(_message.Message):
    __slots__ = ("top_k", "saliency", "when", "estimate_only", "request_id", "timeout", "record", "label_map_size", "min_score")
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SALIENCY_FIELD_NUMBER: _ClassVar[int]
    WHEN_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    LABEL_MAP_SIZE_FIELD_NUMBER: _ClassVar[int]
    MIN_SCORE_FIELD_NUMBER: _ClassVar[int]
    top_k: int
    saliency: _containers.RepeatedCompositeFieldContainer[SaliencyRequest]
    when: Condition
    estimate_only: bool
    request_id: str
    timeout: float
    record: bool
    label_map_size: MapSize
    min_score: float
    def __init__(self, top_k: _Optional[int] = ..., saliency: _Optional[_Iterable[_Union[SaliencyRequest, _Mapping]]] = ..., when: _Optional[_Union[Condition, _Mapping]] = ..., estimate_only: bool = ..., request_id: _Optional[str] = ..., timeout: _Optional[float] = ..., record: bool = ..., label_map_size: _Optional[_Union[MapSize, str]] = ..., min_score: _Optional[float] = ...) -> None: ...

class SaliencyRequest(_message.Message):
    __slots__ = ("method", "target", "reduction", "parameters", "dtype", "size", "faithfulness")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Parameter
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Parameter, _Mapping]] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FAITHFULNESS_FIELD_NUMBER: _ClassVar[int]
    method: str
    target: Target
    reduction: ChannelReduction
    parameters: _containers.MessageMap[str, Parameter]
    dtype: _tensor_pb2.Tensor.DType
    size: MapSize
    faithfulness: int
    def __init__(self, method: _Optional[str] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., reduction: _Optional[_Union[ChannelReduction, str]] = ..., parameters: _Optional[_Mapping[str, Parameter]] = ..., dtype: _Optional[_Union[_tensor_pb2.Tensor.DType, str]] = ..., size: _Optional[_Union[MapSize, str]] = ..., faithfulness: _Optional[int] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("number", "integer", "text", "flag", "tensor")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    number: float
    integer: int
    text: str
    flag: bool
    tensor: _tensor_pb2.Tensor
    def __init__(self, number: _Optional[float] = ..., integer: _Optional[int] = ..., text: _Optional[str] = ..., flag: bool = ..., tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("rank", "index", "label", "contrast", "top", "region")
    RANK_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    rank: int
    index: int
    label: str
    contrast: Contrast
    top: int
    region: Region
    def __init__(self, rank: _Optional[int] = ..., index: _Optional[int] = ..., label: _Optional[str] = ..., contrast: _Optional[_Union[Contrast, _Mapping]] = ..., top: _Optional[int] = ..., region: _Optional[_Union[Region, _Mapping]] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("box", "pixel", "mask")
    class Box(_message.Message):
        __slots__ = ("left", "top", "right", "bottom")
        LEFT_FIELD_NUMBER: _ClassVar[int]
        TOP_FIELD_NUMBER: _ClassVar[int]
        RIGHT_FIELD_NUMBER: _ClassVar[int]
        BOTTOM_FIELD_NUMBER: _ClassVar[int]
        left: float
        top: float
        right: float
        bottom: float
        def __init__(self, left: _Optional[float] = ..., top: _Optional[float] = ..., right: _Optional[float] = ..., bottom: _Optional[float] = ...) -> None: ...
    class Pixel(_message.Message):
        __slots__ = ("x", "y")
        X_FIELD_NUMBER: _ClassVar[int]
        Y_FIELD_NUMBER: _ClassVar[int]
        x: int
        y: int
        def __init__(self, x: _Optional[int] = ..., y: _Optional[int] = ...) -> None: ...
    BOX_FIELD_NUMBER: _ClassVar[int]
    PIXEL_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    box: Region.Box
    pixel: Region.Pixel
    mask: _tensor_pb2.Tensor
    def __init__(self, box: _Optional[_Union[Region.Box, _Mapping]] = ..., pixel: _Optional[_Union[Region.Pixel, _Mapping]] = ..., mask: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ClassRef(_message.Message):
    __slots__ = ("index", "label")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class Contrast(_message.Message):
    __slots__ = ("a", "b")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    a: ClassRef
    b: ClassRef
    def __init__(self, a: _Optional[_Union[ClassRef, _Mapping]] = ..., b: _Optional[_Union[ClassRef, _Mapping]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("score_below", "entropy_above", "labels")
    SCORE_BELOW_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_ABOVE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    score_below: float
    entropy_above: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, score_below: _Optional[float] = ..., entropy_above: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("model", "scores", "saliency", "timing", "request_id", "error", "estimate", "skipped", "view", "ledger", "segmentation", "detected")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    SALIENCY_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    DETECTED_FIELD_NUMBER: _ClassVar[int]
    model: ModelInfo
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    saliency: _containers.RepeatedCompositeFieldContainer[SaliencyMap]
    timing: Timing
    request_id: str
    error: Error
    estimate: Estimate
    skipped: str
    view: View
    ledger: _ledger_pb2.LedgerEntry
    segmentation: Segmentation
    detected: Detected
    def __init__(self, model: _Optional[_Union[ModelInfo, _Mapping]] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., saliency: _Optional[_Iterable[_Union[SaliencyMap, _Mapping]]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., request_id: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., estimate: _Optional[_Union[Estimate, _Mapping]] = ..., skipped: _Optional[str] = ..., view: _Optional[_Union[View, _Mapping]] = ..., ledger: _Optional[_Union[_ledger_pb2.LedgerEntry, _Mapping]] = ..., segmentation: _Optional[_Union[Segmentation, _Mapping]] = ..., detected: _Optional[_Union[Detected, _Mapping]] = ...) -> None: ...

class Detected(_message.Message):
    __slots__ = ("detections", "found")
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    found: int
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., found: _Optional[int] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("box", "index", "label", "score")
    BOX_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    box: Region.Box
    index: int
    label: str
    score: float
    def __init__(self, box: _Optional[_Union[Region.Box, _Mapping]] = ..., index: _Optional[int] = ..., label: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Segmentation(_message.Message):
    __slots__ = ("label_map", "size", "classes")
    LABEL_MAP_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    label_map: _tensor_pb2.Tensor
    size: MapSize
    classes: _containers.RepeatedCompositeFieldContainer[SegmentedClass]
    def __init__(self, label_map: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., size: _Optional[_Union[MapSize, str]] = ..., classes: _Optional[_Iterable[_Union[SegmentedClass, _Mapping]]] = ...) -> None: ...

class SegmentedClass(_message.Message):
    __slots__ = ("index", "label", "area", "confidence")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    area: float
    confidence: float
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ..., area: _Optional[float] = ..., confidence: _Optional[float] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "version", "weights_digest", "precision", "deviation", "task")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVIATION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    weights_digest: str
    precision: str
    deviation: Deviation
    task: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., weights_digest: _Optional[str] = ..., precision: _Optional[str] = ..., deviation: _Optional[_Union[Deviation, _Mapping]] = ..., task: _Optional[str] = ...) -> None: ...

class Deviation(_message.Message):
    __slots__ = ("logits", "gradient", "inputs")
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    logits: float
    gradient: float
    inputs: int
    def __init__(self, logits: _Optional[float] = ..., gradient: _Optional[float] = ..., inputs: _Optional[int] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("index", "label", "probability", "logit")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    probability: float
    logit: float
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ..., probability: _Optional[float] = ..., logit: _Optional[float] = ...) -> None: ...

class SaliencyMap(_message.Message):
    __slots__ = ("method", "target", "values", "minimum", "maximum", "reduction", "size", "rectified", "caveats", "parameters", "measures")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Parameter
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Parameter, _Mapping]] = ...) -> None: ...
    class MeasuresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    RECTIFIED_FIELD_NUMBER: _ClassVar[int]
    CAVEATS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MEASURES_FIELD_NUMBER: _ClassVar[int]
    method: str
    target: ResolvedTarget
    values: _tensor_pb2.Tensor
    minimum: float
    maximum: float
    reduction: ChannelReduction
    size: MapSize
    rectified: int
    caveats: _containers.RepeatedScalarFieldContainer[str]
    parameters: _containers.MessageMap[str, Parameter]
    measures: _containers.ScalarMap[str, float]
    def __init__(self, method: _Optional[str] = ..., target: _Optional[_Union[ResolvedTarget, _Mapping]] = ..., values: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., reduction: _Optional[_Union[ChannelReduction, str]] = ..., size: _Optional[_Union[MapSize, str]] = ..., rectified: _Optional[int] = ..., caveats: _Optional[_Iterable[str]] = ..., parameters: _Optional[_Mapping[str, Parameter]] = ..., measures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class ResolvedTarget(_message.Message):
    __slots__ = ("index", "label", "minus_index", "minus_label", "region", "region_area", "box", "rank", "score")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    MINUS_INDEX_FIELD_NUMBER: _ClassVar[int]
    MINUS_LABEL_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    REGION_AREA_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    minus_index: int
    minus_label: str
    region: str
    region_area: float
    box: Region.Box
    rank: int
    score: float
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ..., minus_index: _Optional[int] = ..., minus_label: _Optional[str] = ..., region: _Optional[str] = ..., region_area: _Optional[float] = ..., box: _Optional[_Union[Region.Box, _Mapping]] = ..., rank: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode_ms", "compute_ms", "total_ms", "batch_size", "preprocess_ms", "copy_ms", "encode_ms")
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_MS_FIELD_NUMBER: _ClassVar[int]
    COPY_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    decode_ms: float
    compute_ms: float
    total_ms: float
    batch_size: int
    preprocess_ms: float
    copy_ms: float
    encode_ms: float
    def __init__(self, decode_ms: _Optional[float] = ..., compute_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., batch_size: _Optional[int] = ..., preprocess_ms: _Optional[float] = ..., copy_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "field", "http_status")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNSPECIFIED: _ClassVar[Error.Code]
        INVALID_ARGUMENT: _ClassVar[Error.Code]
        DEADLINE_EXCEEDED: _ClassVar[Error.Code]
        NOT_FOUND: _ClassVar[Error.Code]
        RESOURCE_EXHAUSTED: _ClassVar[Error.Code]
        FAILED_PRECONDITION: _ClassVar[Error.Code]
        UNIMPLEMENTED: _ClassVar[Error.Code]
        INTERNAL: _ClassVar[Error.Code]
        UNAVAILABLE: _ClassVar[Error.Code]
        DATA_LOSS: _ClassVar[Error.Code]
    UNSPECIFIED: Error.Code
    INVALID_ARGUMENT: Error.Code
    DEADLINE_EXCEEDED: Error.Code
    NOT_FOUND: Error.Code
    RESOURCE_EXHAUSTED: Error.Code
    FAILED_PRECONDITION: Error.Code
    UNIMPLEMENTED: Error.Code
    INTERNAL: Error.Code
    UNAVAILABLE: Error.Code
    DATA_LOSS: Error.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    code: Error.Code
    message: str
    field: str
    http_status: int
    def __init__(self, code: _Optional[_Union[Error.Code, str]] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., http_status: _Optional[int] = ...) -> None: ...

class Estimate(_message.Message):
    __slots__ = ("passes", "response_bytes", "response_limit_bytes")
    PASSES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    passes: int
    response_bytes: int
    response_limit_bytes: int
    def __init__(self, passes: _Optional[int] = ..., response_bytes: _Optional[int] = ..., response_limit_bytes: _Optional[int] = ...) -> None: ...

class View(_message.Message):
    __slots__ = ("image_width", "image_height", "left", "top", "right", "bottom", "decoded_on_device")
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    BOTTOM_FIELD_NUMBER: _ClassVar[int]
    DECODED_ON_DEVICE_FIELD_NUMBER: _ClassVar[int]
    image_width: int
    image_height: int
    left: float
    top: float
    right: float
    bottom: float
    decoded_on_device: bool
    def __init__(self, image_width: _Optional[int] = ..., image_height: _Optional[int] = ..., left: _Optional[float] = ..., top: _Optional[float] = ..., right: _Optional[float] = ..., bottom: _Optional[float] = ..., decoded_on_device: bool = ...) -> None: ...
