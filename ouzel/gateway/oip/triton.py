"""What Triton's clients ask beyond the protocol: configuration and statistics of models. perf_analyzer needs both.

Both are messages; over REST they are Triton's JSON, in which all numbers are numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from ouzel.gateway.engine import Description
from ouzel.gateway.observing.statistics import Counts, Duration
from ouzel.gateway.oip import metadata
from ouzel_protos.oip import inference_pb2 as pb

_TYPES = {"BYTES": pb.TYPE_STRING, "FP32": pb.TYPE_FP32, "INT32": pb.TYPE_INT32, "UINT8": pb.TYPE_UINT8}


def config(model: Description) -> pb.ModelConfig:
    """The configuration of a model, with the shapes of its metadata: the rows are the first extent of each.

    Of its inputs one is given, so each is optional.
    """
    inputs = [
        pb.ModelInput(name=each.name, data_type=_TYPES[each.datatype], dims=each.shape, optional=True)
        for each in metadata.inputs(model)
    ]
    outputs = [
        pb.ModelOutput(name=each.name, data_type=_TYPES[each.datatype], dims=each.shape)
        for each in metadata.outputs(model)
    ]
    return pb.ModelConfig(
        name=model.name, platform=model.platform, max_batch_size=0, input=inputs, output=outputs, backend=model.platform
    )


def statistics(counted: Iterable[tuple[Description, Counts]]) -> pb.ModelStatisticsResponse:
    """The statistics of versions of models."""
    return pb.ModelStatisticsResponse(model_stats=[_statistics(model, counts) for model, counts in counted])


def _statistics(model: Description, counts: Counts) -> pb.ModelStatistics:
    return pb.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=round(counts.last * 1e3),
        inference_count=counts.rows,
        execution_count=round(counts.batches),
        inference_stats=pb.InferStatistics(
            success=_duration(counts.success),
            fail=_duration(counts.fail),
            queue=_duration(counts.queue),
            compute_input=_duration(counts.input),
            compute_infer=_duration(counts.infer),
            compute_output=_duration(counts.output),
        ),
    )


def _duration(value: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=value.count, ns=value.ns)


def as_json(message: Message) -> dict[str, Any]:
    """A message as Triton's REST has it."""
    content: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    numbers: dict[str, Any] = _numbers(content)
    return numbers


def _numbers(value: Any) -> Any:
    """JSON of protobuf has integers of 64 bits as texts; names and versions are the texts that may look like them."""
    if isinstance(value, dict):
        return {key: each if key in ("name", "version") else _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        return int(value)
    return value
