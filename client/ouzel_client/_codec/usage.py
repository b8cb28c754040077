"""Usage and quotes: from messages of the wire."""

from __future__ import annotations

from datetime import date

from ouzel_client._types.usage import DayUsage, QuotaUsage, Quote, Usage
from ouzel_protos.v1 import job_pb2 as pb


def usage(message: pb.Usage) -> Usage:
    """What the caller has used."""
    days = (
        DayUsage(
            date.fromisoformat(each.day),
            each.kind,
            each.seconds,
            each.gpu_seconds,
            each.succeeded,
            each.failed,
            each.cancelled,
        )
        for each in message.days
    )
    quotas = (QuotaUsage(each.name, each.used, each.limit) for each in message.quotas)
    return Usage(tuple(days), message.artifact_bytes, message.dataset_bytes, message.reserved_bytes, tuple(quotas))


def quote(job: pb.Job) -> Quote | None:
    """What a job will probably cost; None if the worker does not say."""
    if not job.HasField("quote"):
        return None
    told = job.quote
    return Quote(told.low, told.likely, told.high, told.gpus, told.jobs)
