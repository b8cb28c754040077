"""Other services whose predictions are audited: endpoints that the operator of the worker has registered.

Callers name an endpoint, and never see more of it than `describe` tells: no address and no secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ouzel.errors import FailedPrecondition
from ouzel_protos.v1 import audit_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit import Predictor


def open_source(name: str, config: Any) -> Predictor:
    """Makes a predictor of an endpoint, in the process that audits. It stays open as long as the process lives.

    Args:
        name: What callers call it.
        config: As the operator describes it: a value of `WorkerOptions.audit_endpoints`.

    Returns:
        A predictor that threads may share.

    Raises:
        OuzelError: The endpoint does not answer, or is not what the operator says.
    """
    raise FailedPrecondition(f"endpoint: {name!r:.80} cannot be asked by this worker", field="endpoint")


def describe(name: str, config: Any) -> pb.ListAuditSourcesResponse.Source:
    """What callers may know of an endpoint.

    Args:
        name: What callers call it.
        config: As that of `open_source`.
    """
    return pb.ListAuditSourcesResponse.Source(name=name)
